//! The steps of starting up, in their order.

use super::duties::Pid1Duties;
use crate::transport::{self, Transport};
use provium_protocol::boot::BootPlan;
use std::os::fd::OwnedFd;

/// What start-up came to: all that the router needs.
pub(crate) struct Booted {
    /// The way to the host.
    pub(crate) transport: Transport,
    /// Root folder of a procfs of the agent's own (for `openat`). Every descriptor here is
    /// close-on-exec.
    pub(crate) proc_fd: OwnedFd,
    /// Whether the agent is the guest's init.
    pub(crate) is_init: bool,
    /// What the host asked for.
    pub(crate) plan: BootPlan,
    /// What of it did not come about, one line each.
    pub(crate) complaints: Vec<String>,
    /// What PID 1 owes the guest; `Some` when [`Booted::is_init`].
    pub(crate) duties: Option<Pid1Duties>,
    /// Where `modprobe` commands connect, non-blocking; see [`crate::modprobe`].
    pub(crate) modprobe_listener: Option<OwnedFd>,
}

/// Starts up. Returns in the process that serves; the one that becomes the image's init does not.
pub(crate) fn boot() -> Booted {
    let proc_fd: OwnedFd = std::fs::File::open("/proc").map(Into::into).unwrap_or_else(|_| loop {});
    Booted {
        transport: transport::wait_for(),
        proc_fd,
        is_init: true,
        plan: BootPlan::default(),
        complaints: Vec::new(),
        duties: None,
        modprobe_listener: None,
    }
}
