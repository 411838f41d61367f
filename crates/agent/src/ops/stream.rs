//! Moving bytes between a descriptor and a call.

use crate::executor::{Call, Input, Shared};
use crate::failure;
use crate::sys::{Errno, fd};
use provium_protocol::frame::MAX_PAYLOAD;
use provium_protocol::{Channel, WireError};
use std::os::fd::RawFd;

/// Whether a read would return at once. Files on disks always claim so; some of `/proc` do not.
pub(crate) fn is_readable(fd: RawFd) -> bool {
    let mut fds = [fd::interest(fd, libc::POLLIN)];
    // A descriptor that is not open counts as readable: the read then says what is wrong.
    fd::poll(&mut fds, Some(std::time::Duration::ZERO)).is_ok_and(|ready| ready > 0)
}

/// Waits until a descriptor that does not block by itself is ready, or a signal comes.
fn await_ready(fd: RawFd, events: i16) {
    let _ = fd::poll(&mut [fd::interest(fd, events)], None);
}

/// How far sending a file got without waiting.
pub(crate) enum Sent {
    /// To its end: so many bytes.
    All(u64),
    /// So many bytes; what follows may take time, or needs credit.
    Part(u64),
}

/// Sends what can be sent without waiting.
pub(crate) fn send_ready(shared: &Shared, call: &Call, fd: RawFd) -> Result<Sent, WireError> {
    let mut sent = 0;
    let mut buffer = Vec::new();
    loop {
        let room = call.credit(Channel::Output).min(MAX_PAYLOAD);
        if room == 0 || call.is_cancelled() || !is_readable(fd) {
            return Ok(Sent::Part(sent));
        }
        buffer.resize(
            if buffer.is_empty() {
                room.min(8 * 1024)
            } else {
                room
            },
            0,
        );
        match fd::read(fd, &mut buffer) {
            Ok(0) => return Ok(Sent::All(sent)),
            Ok(got) => {
                sent += got as u64;
                shared.data(call, Channel::Output, &buffer[..got]);
            }
            Err(Errno::INTR | Errno::AGAIN) => return Ok(Sent::Part(sent)),
            Err(errno) => return Err(failure::os("read", errno)),
        }
    }
}

/// Sends up to the end of the file, waiting as needed; returns how many bytes.
pub(crate) fn send_rest(shared: &Shared, call: &Call, fd: RawFd) -> Result<u64, WireError> {
    let mut sent = 0;
    let mut buffer = vec![0; MAX_PAYLOAD];
    loop {
        let room = call
            .await_credit(Channel::Output)
            .map_err(|_| failure::cancelled())?;
        let room = room.min(buffer.len());
        match fd::read(fd, &mut buffer[..room]) {
            Ok(0) => return Ok(sent),
            Ok(got) => {
                sent += got as u64;
                shared.data(call, Channel::Output, &buffer[..got]);
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => await_ready(fd, libc::POLLIN),
            Err(errno) => return Err(failure::os("read", errno)),
        }
    }
}

/// Everything up to the end of the file, but no more than `limit` bytes.
pub(crate) fn read_whole(call: &Call, fd: RawFd, limit: usize) -> Result<Vec<u8>, WireError> {
    let mut content = Vec::new();
    let mut buffer = vec![0; MAX_PAYLOAD];
    loop {
        match fd::read(fd, &mut buffer) {
            Ok(0) => return Ok(content),
            Ok(got) if content.len() + got > limit => {
                return Err(failure::os("read", Errno(libc::EFBIG)));
            }
            Ok(got) => content.extend_from_slice(&buffer[..got]),
            Err(Errno::INTR) => call.wanted().map_err(|_| failure::cancelled())?,
            Err(Errno::AGAIN) => {
                call.wanted().map_err(|_| failure::cancelled())?;
                await_ready(fd, libc::POLLIN);
            }
            Err(errno) => return Err(failure::os("read", errno)),
        }
    }
}

/// Writes what comes on the input channel, to its end; returns how many bytes.
pub(crate) fn write_input(shared: &Shared, call: &Call, fd: RawFd) -> Result<u64, WireError> {
    let mut written = 0;
    loop {
        match call.await_input().map_err(|_| failure::cancelled())? {
            Input::End => return Ok(written),
            Input::Bytes(bytes) => {
                write_whole(call, fd, &bytes)?;
                written += bytes.len() as u64;
                shared.grant_input(call, bytes.len());
            }
        }
    }
}

/// Writes all of it.
pub(crate) fn write_whole(call: &Call, fd: RawFd, bytes: &[u8]) -> Result<(), WireError> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match fd::write(fd, rest) {
            Ok(put) => rest = &rest[put..],
            Err(Errno::INTR) => call.wanted().map_err(|_| failure::cancelled())?,
            Err(Errno::AGAIN) => {
                call.wanted().map_err(|_| failure::cancelled())?;
                await_ready(fd, libc::POLLOUT);
            }
            Err(errno) => return Err(failure::os("write", errno)),
        }
    }
    Ok(())
}
