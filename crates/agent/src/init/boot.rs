//! The steps of starting up, in their order.

#![expect(unsafe_code, reason = "umask has no function in std")]

use super::chain::{self, Role};
use super::duties::Pid1Duties;
use super::mounts::{self, Scratch};
use super::uevents::Uevents;
use super::{modules, network, on_demand};
use crate::transport::{self, Transport};
use provium_protocol::boot::{BootPlan, PLAN_PATH};
use provium_protocol::codec;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// What start-up came to: all that the router needs. Every descriptor is close-on-exec.
pub(crate) struct Booted {
    /// The way to the host.
    pub(crate) transport: Transport,
    /// Root folder of a procfs of the agent's own, under no path: an `O_PATH` descriptor for
    /// `openat`.
    pub(crate) proc_fd: OwnedFd,
    /// The same of a sysfs.
    pub(crate) sys_fd: OwnedFd,
    /// The same of the devtmpfs that is the guest's, too.
    pub(crate) dev_fd: OwnedFd,
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

/// The `oom_score_adj` of a process that is never chosen.
const NEVER: i32 = -1000;
/// Where the agent's own file systems are while it starts up.
const PROC: &str = "/.provium/proc";
const SYS: &str = "/.provium/sys";
const DEV: &str = "/.provium/dev";

/// Starts up. Returns in the process that serves; the one that becomes the image's init does not.
/// To be called by PID 1, before there is a second thread.
pub(crate) fn boot() -> Booted {
    // SAFETY: no pointers.
    unsafe { libc::umask(0o022) };
    let mut complaints = Vec::new();
    let plan = read_plan(&mut complaints);
    let inits = chain::candidates(&plan.init);
    let mut is_init = inits.is_empty();
    if is_init {
        mounts::mount_for_init(&mut complaints);
        chain::open_standard_streams();
    }
    let proc_mount = Scratch::mount(PROC, "proc");
    let sys_mount = Scratch::mount(SYS, "sysfs");
    let dev_mount = Scratch::mount(DEV, "devtmpfs");

    let uevents = Uevents::listen().ok();
    let cmdline = fs::read_to_string(Path::new(PROC).join("cmdline")).unwrap_or_default();
    modules::load_all(&plan.modules, &cmdline, &mut complaints);
    let transport = transport::wait_for(Path::new(SYS), uevents.as_ref());

    let argv0 = chain::address_of_argv0(Path::new(PROC));
    let proc_fd = take_out(proc_mount, PROC, &mut complaints);
    let sys_fd = take_out(sys_mount, SYS, &mut complaints);
    let dev_fd = take_out(dev_mount, DEV, &mut complaints);
    if !inits.is_empty() {
        match chain::hand_over(&inits, &mut complaints) {
            Role::Child => chain::stand_apart(argv0),
            Role::Init => {
                is_init = true;
                mounts::mount_for_init(&mut complaints);
            }
        }
    }
    if let Err(error) = chain::set_oom_score(proc_fd.as_fd(), NEVER) {
        complaints.push(format!("oom_score_adj: {error}"));
    }

    let mut duties = None;
    let mut modprobe_listener = None;
    if is_init {
        set_up_as_init(&plan, &mut complaints);
        match Pid1Duties::take_up(uevents) {
            Ok(taken) => duties = Some(taken),
            Err(error) => complaints.push(format!("signals of PID 1: {error}")),
        }
        if plan.modules_on_demand {
            modprobe_listener = on_demand::install(&mut complaints);
        }
    }
    Booted {
        transport,
        proc_fd,
        sys_fd,
        dev_fd,
        is_init,
        plan,
        complaints,
        duties,
        modprobe_listener,
    }
}

fn read_plan(complaints: &mut Vec<String>) -> BootPlan {
    let plan = fs::read(PLAN_PATH).and_then(|bytes| {
        codec::decode(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    });
    plan.unwrap_or_else(|error| {
        complaints.push(format!("read {PLAN_PATH}: {error}"));
        BootPlan::default()
    })
}

fn take_out(
    mount: io::Result<Scratch>,
    path: &str,
    complaints: &mut Vec<String>,
) -> OwnedFd {
    match mount.and_then(Scratch::detach) {
        Ok(fd) => fd,
        Err(error) => {
            complaints.push(format!("mount {path}: {error}"));
            // A folder in which nothing is found: whoever looks something up is told so.
            nowhere()
        }
    }
}

#[expect(clippy::expect_used, reason = "the root folder can always be opened")]
fn nowhere() -> OwnedFd {
    File::open("/").map(Into::into).expect("the root folder of a running process")
}

fn set_up_as_init(plan: &BootPlan, complaints: &mut Vec<String>) {
    if !plan.hostname.is_empty()
        && let Err(error) = network::set_hostname(&plan.hostname)
    {
        complaints.push(format!("host name `{}`: {error}", plan.hostname));
    }
    if let Err(error) = network::loopback_up() {
        complaints.push(format!("bring up lo: {error}"));
    }
}
