//! Descriptors: reading, writing, polling, and their numbers.

#![expect(unsafe_code, reason = "descriptor calls of the kernel")]

use super::errno::uninterrupted;
use super::{Errno, Sys, check};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Takes ownership of a descriptor that a call just made.
pub(crate) fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: callers pass what the kernel returned to them a moment ago.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// `read(2)`, once.
pub(crate) fn read(fd: RawFd, buffer: &mut [u8]) -> Sys<usize> {
    // SAFETY: the buffer is valid for its length.
    let got = check(unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) })?;
    Ok(got.unsigned_abs())
}

/// `write(2)`, once.
pub(crate) fn write(fd: RawFd, bytes: &[u8]) -> Sys<usize> {
    // SAFETY: the bytes are valid for their length.
    let put = check(unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) })?;
    Ok(put.unsigned_abs())
}

/// Moves up to `len` bytes of a file into a pipe, without copying them to this process. An error when
/// nothing was moved; then the file may not be one that this works for.
pub(crate) fn send_file(pipe: RawFd, file: RawFd, len: usize) -> Sys<usize> {
    // SAFETY: a null pointer means the file's own offset.
    let moved = check(unsafe { libc::sendfile(pipe, file, std::ptr::null_mut(), len) })?;
    Ok(moved.unsigned_abs())
}

/// Moves up to `len` bytes from one pipe into another, at least one; waits for both.
pub(crate) fn splice(from: RawFd, to: RawFd, len: usize) -> Sys<usize> {
    let none = std::ptr::null_mut();
    // SAFETY: pipes have no offsets, for which the pointers would be.
    let moved = check(unsafe { libc::splice(from, none, to, none, len, 0) })?;
    Ok(moved.unsigned_abs())
}

/// Writes all of it, to something that blocks.
pub(crate) fn write_all(fd: RawFd, mut bytes: &[u8]) -> Sys<()> {
    while !bytes.is_empty() {
        match uninterrupted(|| write(fd, bytes))? {
            0 => return Err(Errno::IO),
            put => bytes = &bytes[put..],
        }
    }
    Ok(())
}

/// Reads up to the end of the file.
pub(crate) fn read_to_end(fd: RawFd) -> Sys<Vec<u8>> {
    let mut content = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match uninterrupted(|| read(fd, &mut chunk))? {
            0 => return Ok(content),
            got => content.extend_from_slice(&chunk[..got]),
        }
    }
}

/// A pipe: its reading end, its writing end. Both close on exec.
pub(crate) fn pipe() -> Sys<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    Ok((own(ends[0]), own(ends[1])))
}

/// Changes how much a pipe can hold.
pub(crate) fn set_pipe_size(fd: RawFd, bytes: usize) -> Sys<()> {
    let bytes = i32::try_from(bytes).map_err(|_| Errno::INVAL)?;
    // SAFETY: no pointers.
    check(unsafe { libc::fcntl(fd, libc::F_SETPIPE_SZ, bytes) }).map(drop)
}

/// A counter that wakes a poll.
pub(crate) fn eventfd() -> Sys<OwnedFd> {
    // SAFETY: no pointers.
    check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) }).map(own)
}

/// Makes reads and writes through this open file return instead of wait.
pub(crate) fn set_nonblocking(fd: RawFd) -> Sys<()> {
    // SAFETY: no pointers.
    let flags = check(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    // SAFETY: no pointers.
    check(unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) }).map(drop)
}

/// Bytes that can be read from a pipe or terminal now.
pub(crate) fn readable_bytes(fd: RawFd) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: room for one int.
    let result = unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut count) };
    if result < 0 {
        0
    } else {
        usize::try_from(count).unwrap_or(0)
    }
}

/// Moves a descriptor to the lowest free number from `least` on; it stays where it is when there is
/// none.
pub(crate) fn move_up(fd: OwnedFd, least: RawFd) -> OwnedFd {
    // SAFETY: no pointers.
    match check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) }) {
        Ok(moved) => own(moved),
        Err(_) => fd,
    }
}

/// Puts a copy of `fd` at exactly `target`, closing on exec. The copy has no owner: it lives as long
/// as the process.
pub(crate) fn copy_to(fd: RawFd, target: RawFd) -> Sys<()> {
    if fd == target {
        // SAFETY: no pointers.
        return check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }).map(drop);
    }
    // SAFETY: no pointers.
    check(unsafe { libc::dup3(fd, target, libc::O_CLOEXEC) }).map(drop)
}

/// `dup2(2)`, for the standard descriptors.
pub(crate) fn copy_to_inheritable(fd: RawFd, target: RawFd) -> Sys<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::dup2(fd, target) }).map(drop)
}

/// Closes a descriptor by number.
pub(crate) fn close(fd: RawFd) -> Sys<()> {
    // SAFETY: no pointers. The caller is responsible for the ownership of the number.
    check(unsafe { libc::close(fd) }).map(drop)
}

/// Closes all descriptors from `first` to `last`.
pub(crate) fn close_range(first: RawFd, last: RawFd) {
    if first > last {
        return;
    }
    // SAFETY: no pointers.
    if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0 {
        return;
    }
    // Before Linux 5.9. Descriptors of the agent stay below this.
    for fd in first..=last.min(1023) {
        let _ = close(fd);
    }
}

/// One descriptor to wait for.
pub(crate) fn interest(fd: RawFd, events: i16) -> libc::pollfd {
    libc::pollfd {
        fd,
        events,
        revents: 0,
    }
}

/// Waits until one is ready, the time is up, or a signal comes.
pub(crate) fn poll(fds: &mut [libc::pollfd], timeout: Option<Duration>) -> Sys<usize> {
    let millis = match timeout {
        // Rounded up, so that a deadline has passed when the wait ends.
        Some(time) => i32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX),
        None => -1,
    };
    let count = libc::nfds_t::try_from(fds.len()).unwrap_or(libc::nfds_t::MAX);
    // SAFETY: the slice is valid for its length.
    let ready = check(unsafe { libc::poll(fds.as_mut_ptr(), count, millis) })?;
    Ok(usize::try_from(ready).unwrap_or(0))
}
