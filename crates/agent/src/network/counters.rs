//! The kernel's counters of a NIC.

use super::change::Mac;
use super::session::Session;
use super::state;
use crate::failure::{self, OpResult};
use crate::sys::Errno;
use provium_protocol::Reply;
use provium_protocol::op::ReadNicCounters;

/// Figures about the NIC that the request names.
pub(crate) fn count(request: ReadNicCounters) -> OpResult {
    let device = request.device_mac;
    let interfaces = Session::open()
        .and_then(|mut session| state::interfaces(&mut session, true))
        .map_err(|errno| failure::os("listing the network interfaces", errno))?;
    let found = interfaces
        .iter()
        .find(|interface| interface.permanent_mac == Some(device));
    match found {
        Some(interface) => Ok(Reply::NicCounters(interface.counters)),
        None => {
            let tried = format!("finding the interface of the NIC {}", Mac(&device));
            Err(failure::os(tried, Errno(libc::ENODEV)))
        }
    }
}
