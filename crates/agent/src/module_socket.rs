//! The socket on which `modprobe`, a process of its own, requests kernel modules from the router.

use crate::sys::{Sys, fd, packet};
use provium_protocol::{HostReply, codec};
use std::os::fd::{AsRawFd, OwnedFd};

const PATH: &str = "/.provium/modules.sock";

/// The router's end.
pub(crate) fn listen() -> Sys<OwnedFd> {
    packet::listen(PATH)
}

/// Requests a module. `None`: the router does not reply.
pub(crate) fn request(name: &str) -> Option<HostReply> {
    request_on(&packet::connect(PATH).ok()?, name)
}

/// Requests a module on a connected socket.
pub(crate) fn request_on(socket: &OwnedFd, name: &str) -> Option<HostReply> {
    fd::write_all(socket.as_raw_fd(), name.as_bytes()).ok()?;
    packet::finish_writing(socket.as_raw_fd()).ok()?;
    let answer = fd::read_to_end(socket.as_raw_fd()).ok()?;
    codec::decode(&answer).ok()
}
