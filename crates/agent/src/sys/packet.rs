//! Sockets between the agent's own processes. A packet is one or more frames.

#![expect(unsafe_code, reason = "socket calls of the kernel")]

use super::fd::own;
use super::{Errno, Sys, check};
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;

/// A connected pair.
pub(crate) fn pair() -> Sys<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: room for two descriptors.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) })?;
    Ok((own(ends[0]), own(ends[1])))
}

/// A connected pair for bytes. Reads and writes through the first end never wait.
pub(crate) fn stream_pair() -> Sys<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: room for two descriptors.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) })?;
    // SAFETY: no pointers.
    check(unsafe { libc::fcntl(ends[0], libc::F_SETFL, libc::O_NONBLOCK) })?;
    Ok((own(ends[0]), own(ends[1])))
}

/// Whether a send or receive waits.
#[derive(Clone, Copy)]
pub(crate) enum BlockingMode {
    Blocks,
    Returns,
}

impl BlockingMode {
    fn flag(self) -> i32 {
        match self {
            Self::Blocks => 0,
            Self::Returns => libc::MSG_DONTWAIT,
        }
    }
}

/// Sends one packet made of two parts.
pub(crate) fn send(socket: RawFd, parts: [&[u8]; 2], waiting: BlockingMode) -> Sys<()> {
    let mut vectors = parts.map(|part| libc::iovec {
        iov_base: part.as_ptr().cast_mut().cast(),
        iov_len: part.len(),
    });
    // SAFETY: all-zero is a valid msghdr.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = vectors.as_mut_ptr();
    header.msg_iovlen = vectors.len();
    let flags = libc::MSG_NOSIGNAL | waiting.flag();
    // SAFETY: the header points to live buffers only.
    check(unsafe { libc::sendmsg(socket, &raw const header, flags) }).map(drop)
}

/// Receives one packet; its length, 0 when the other side is gone.
pub(crate) fn receive(socket: RawFd, buffer: &mut [u8], waiting: BlockingMode) -> Sys<usize> {
    let room = buffer.as_mut_ptr().cast();
    // SAFETY: the buffer is valid for its length.
    let len = check(unsafe { libc::recv(socket, room, buffer.len(), waiting.flag()) })?;
    Ok(len.unsigned_abs())
}

/// The address of a socket by path.
fn address(path: &str) -> Sys<libc::sockaddr_un> {
    // SAFETY: all-zero is a valid address.
    let mut address: libc::sockaddr_un = unsafe { mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    if path.len() >= address.sun_path.len() {
        return Err(Errno::INVAL);
    }
    for (to, from) in address.sun_path.iter_mut().zip(path.bytes()) {
        *to = from.cast_signed();
    }
    Ok(address)
}

const ADDRESS_LEN: libc::socklen_t = size_of::<libc::sockaddr_un>() as libc::socklen_t;

fn stream_socket(flags: i32) -> Sys<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | flags;
    // SAFETY: no pointers.
    check(unsafe { libc::socket(libc::AF_UNIX, kind, 0) }).map(own)
}

/// A byte-stream socket that listens at a path, and never waits.
pub(crate) fn listen(path: &str) -> Sys<OwnedFd> {
    let socket = stream_socket(libc::SOCK_NONBLOCK)?;
    let address = address(path)?;
    // SAFETY: the address is valid for the length given.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), ADDRESS_LEN) })?;
    // SAFETY: no pointers.
    check(unsafe { libc::listen(socket.as_raw_fd(), 64) })?;
    Ok(socket)
}

/// Who asks next at a listening socket. Reads and writes through the result never wait.
pub(crate) fn accept(listener: RawFd) -> Sys<OwnedFd> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: null addresses are allowed.
    check(unsafe { libc::accept4(listener, ptr::null_mut(), ptr::null_mut(), flags) }).map(own)
}

/// Connects to a listening socket.
pub(crate) fn connect(path: &str) -> Sys<OwnedFd> {
    let socket = stream_socket(0)?;
    let address = address(path)?;
    // SAFETY: the address is valid for the length given.
    check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), ADDRESS_LEN) })?;
    Ok(socket)
}

/// Tells the other side that nothing more comes.
pub(crate) fn finish_writing(socket: RawFd) -> Sys<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::shutdown(socket, libc::SHUT_WR) }).map(drop)
}
