//! Stream sockets that a server in the guest is reached by.

#![expect(unsafe_code, reason = "socket calls of the kernel")]

use super::fd::own;
use super::{Errno, Sys, check};
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

fn stream(family: i32) -> Sys<OwnedFd> {
    // SAFETY: no pointers.
    check(unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) }).map(own)
}

fn connect<T>(family: i32, address: &T, len: usize) -> Sys<OwnedFd> {
    let socket = stream(family)?;
    let len = libc::socklen_t::try_from(len).map_err(|_| Errno::INVAL)?;
    let address = std::ptr::from_ref(address).cast();
    // SAFETY: an address of the family, at least as long as said.
    check(unsafe { libc::connect(socket.as_raw_fd(), address, len) })?;
    Ok(socket)
}

/// Connects to a TCP port of 127.0.0.1.
pub(crate) fn connect_ipv4(port: u16) -> Sys<OwnedFd> {
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr {
            s_addr: libc::INADDR_LOOPBACK.to_be(),
        },
        sin_zero: [0; 8],
    };
    connect(libc::AF_INET, &address, size_of_val(&address))
}

/// Connects to a TCP port of ::1.
pub(crate) fn connect_ipv6(port: u16) -> Sys<OwnedFd> {
    let mut loopback = [0; 16];
    loopback[15] = 1;
    let address = libc::sockaddr_in6 {
        sin6_family: libc::AF_INET6 as libc::sa_family_t,
        sin6_port: port.to_be(),
        sin6_flowinfo: 0,
        sin6_addr: libc::in6_addr { s6_addr: loopback },
        sin6_scope_id: 0,
    };
    connect(libc::AF_INET6, &address, size_of_val(&address))
}

/// Connects to a socket of the Unix domain. A path that begins with `@` is a name in the abstract
/// namespace.
pub(crate) fn connect_unix(path: &[u8]) -> Sys<OwnedFd> {
    // SAFETY: all-zero is a valid address.
    let mut address: libc::sockaddr_un = unsafe { mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let is_abstract = path.first() == Some(&b'@');
    // A path ends with a zero byte, an abstract name with the address.
    let room = address.sun_path.len() - usize::from(!is_abstract);
    if path.len() > room {
        return Err(Errno(libc::ENAMETOOLONG));
    }
    if path.is_empty() || path.contains(&0) {
        return Err(Errno::INVAL);
    }
    for (to, from) in address.sun_path.iter_mut().zip(path) {
        *to = from.cast_signed();
    }
    if is_abstract {
        address.sun_path[0] = 0;
    }
    let start = mem::offset_of!(libc::sockaddr_un, sun_path);
    let len = start + path.len() + usize::from(!is_abstract);
    connect(libc::AF_UNIX, &address, len)
}

/// Sends small pieces at once; for TCP.
pub(crate) fn set_nodelay(socket: RawFd) -> Sys<()> {
    let on: libc::c_int = 1;
    let len = size_of_val(&on) as libc::socklen_t;
    // SAFETY: an int of the length given.
    check(unsafe {
        libc::setsockopt(
            socket,
            libc::IPPROTO_TCP,
            libc::TCP_NODELAY,
            (&raw const on).cast(),
            len,
        )
    })
    .map(drop)
}

/// The error that the socket has met since the last call to it, if any.
pub(crate) fn pending_error(socket: RawFd) -> Option<Errno> {
    let mut error: libc::c_int = 0;
    let mut len = size_of_val(&error) as libc::socklen_t;
    // SAFETY: room for an int, and its length.
    let got = unsafe {
        libc::getsockopt(
            socket,
            libc::SOL_SOCKET,
            libc::SO_ERROR,
            (&raw mut error).cast(),
            &raw mut len,
        )
    };
    (got == 0 && error != 0).then_some(Errno(error))
}

/// Says that no more will be sent.
pub(crate) fn end_sending(socket: RawFd) -> Sys<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::shutdown(socket, libc::SHUT_WR) }).map(drop)
}
