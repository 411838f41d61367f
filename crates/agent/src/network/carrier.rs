//! Waiting for the carrier of interfaces whose links the host has connected.
//!
//! The kernel takes note of a carrier a moment after the driver has seen it; until then, the interface has no IPv6,
//! and tools show it as disconnected.

use super::plan::Target;
use super::session::Session;
use super::state;
use crate::failure;
use crate::sys::{Errno, netlink};
use provium_protocol::WireError;
use provium_protocol::op::NicConfig;
use std::time::{Duration, Instant};

/// How long the kernel may take: it delays some changes of a carrier by a second.
const LIMIT: Duration = Duration::from_secs(10);

/// Returns when those NICs have their carriers that should; one that the guest has taken down is not waited for.
pub(super) fn await_carriers(session: &mut Session, nics: &[NicConfig]) -> Result<(), WireError> {
    if nics.iter().all(|nic| !nic.has_carrier) {
        return Ok(());
    }
    let tried = |errno| failure::os("listing the network interfaces", errno);
    let events = netlink::interface_events().map_err(tried)?;
    let deadline = Instant::now() + LIMIT;
    loop {
        let interfaces = state::interfaces(session, false).map_err(tried)?;
        let is_without = |target: &Target<'_>| {
            let mut own = interfaces.iter();
            let own = own.find(|one| one.index == target.index);
            own.is_some_and(|one| one.is_up && !one.is_running)
        };
        let (targets, _) = Target::find(nics, &interfaces);
        let mut waiting = targets.iter().filter(|target| target.config.has_carrier);
        let Some(without) = waiting.find(|target| is_without(target)) else {
            return Ok(());
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let name = &without.config.name;
            let tried = format!("waiting {} s for the carrier of {name}", LIMIT.as_secs());
            return Err(failure::os(tried, Errno(libc::ENETDOWN)));
        }
        netlink::await_event(&events, left);
    }
}
