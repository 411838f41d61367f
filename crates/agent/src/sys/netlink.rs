//! Sockets of the kernel's routing layer, and what it offers for network devices beside them.

#![expect(unsafe_code, reason = "socket and ioctl calls of the kernel")]

use super::fd::{self, own};
use super::{Errno, Sys, check};
use std::ffi::c_void;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Has acknowledgements without a copy of the request, so that many fit into the socket's buffer.
const SHORT_ACKNOWLEDGEMENTS: i32 = 10;

/// A socket of rtnetlink for requests.
pub(crate) fn open() -> Sys<OwnedFd> {
    let socket = routing_socket(0)?;
    let on: libc::c_int = 1;
    let len = size_of_val(&on) as libc::socklen_t;
    let value = (&raw const on).cast();
    // SAFETY: an int of the length given. A kernel before 4.3 does not know the option, and copies.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_NETLINK,
            SHORT_ACKNOWLEDGEMENTS,
            value,
            len,
        )
    };
    Ok(socket)
}

/// A socket on which the kernel announces interfaces as they come, change and go. Reads do not wait.
pub(crate) fn interface_events() -> Sys<OwnedFd> {
    let socket = routing_socket(libc::SOCK_NONBLOCK)?;
    // SAFETY: all-zero is a valid address, and it is as long as claimed.
    unsafe {
        let mut address: libc::sockaddr_nl = mem::zeroed();
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = libc::RTMGRP_LINK as u32;
        let len = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        let address = (&raw const address).cast();
        check(libc::bind(socket.as_raw_fd(), address, len))?;
    }
    Ok(socket)
}

/// Waits for an event on a socket whose reads do not wait, and takes all that there are.
pub(crate) fn await_event(events: &OwnedFd, limit: Duration) {
    let _ = fd::poll(
        &mut [fd::interest(events.as_raw_fd(), libc::POLLIN)],
        Some(limit),
    );
    // An overflow of the receive buffer is an event, too.
    let mut buffer = [0; 4096];
    while let Ok(1..) = fd::read(events.as_raw_fd(), &mut buffer) {}
}

fn routing_socket(flags: i32) -> Sys<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | flags;
    // SAFETY: no pointers.
    check(unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) }).map(own)
}

/// A request about the interface of this name.
fn request_about(name: &str) -> Sys<libc::ifreq> {
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(Errno::INVAL);
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    Ok(request)
}

/// The permanent hardware address of an interface, for kernels before 5.6, whose rtnetlink does not
/// report it.
pub(crate) fn permanent_address(socket: RawFd, name: &str) -> Sys<[u8; 6]> {
    const ETHTOOL_GPERMADDR: u32 = 0x20;
    /// `struct ethtool_perm_addr` with room for an address of 32 bytes.
    #[repr(C)]
    struct PermanentAddress {
        command: u32,
        size: u32,
        data: [u8; 32],
    }
    let mut found = PermanentAddress {
        command: ETHTOOL_GPERMADDR,
        size: 32,
        data: [0; 32],
    };
    let mut request = request_about(name)?;
    request.ifr_ifru.ifru_data = (&raw mut found).cast();
    // SAFETY: a request with room for as many bytes as it says.
    check(unsafe { libc::ioctl(socket, libc::SIOCETHTOOL as _, &raw mut request) })?;
    let address = found.data.first_chunk().copied();
    match address {
        Some(address) if found.size == 6 && address != [0; 6] => Ok(address),
        _ => Err(Errno(libc::ENODATA)),
    }
}

/// Has the kernel load a module with its own `modprobe`: it does so for a name that should be an
/// interface's and is not. Waits until that program has ended.
pub(crate) fn load_module_by_kernel(socket: RawFd, name: &str) {
    if let Ok(mut request) = request_about(name) {
        let request: *mut c_void = (&raw mut request).cast();
        // SAFETY: a request. The expected answer is that the interface does not exist.
        unsafe { libc::ioctl(socket, libc::SIOCGIFINDEX as _, request) };
    }
}
