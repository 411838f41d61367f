//! The pipes of a stream to the executor: one for its bytes, one for what is reported beside them.

use super::operation::Operation;
use crate::failure;
use crate::sys::slot::PipeEnd;
use crate::sys::{Errno, Sys, fd, process};
use provium_protocol::WireError;
use provium_protocol::op::{NoticeKind, StreamNotice};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Size of the pipe for bytes: the default of 64 KiB takes a switch of processes for each frame.
const SIZE: usize = 1024 * 1024;

/// The pipes of a stream, whose other ends the executor has.
pub(super) struct StreamPipes {
    bytes: OwnedFd,
    notices: OwnedFd,
    /// Bytes sent so far.
    sent: u64,
}

impl StreamPipes {
    /// Creates them, and reports that the stream has begun.
    pub(super) fn open(operation: &Operation) -> Result<Self, WireError> {
        let pipe = |which| {
            let ends = operation.make_pipe(which);
            ends.map_err(|errno| failure::os("make a pipe", errno))
        };
        let (bytes, bytes_end) = pipe(PipeEnd::Output)?;
        let (notices, notices_end) = pipe(PipeEnd::Error)?;
        // An ordinary user may have reached the limit on such memory; then the pipe stays as it is.
        let _ = fd::set_pipe_size(bytes.as_raw_fd(), SIZE);
        operation.hand_over();
        drop((bytes_end, notices_end));
        let pipes = Self {
            bytes,
            notices,
            sent: 0,
        };
        pipes.report(NoticeKind::Opened);
        Ok(pipes)
    }

    /// The pipe for bytes; what is written to it directly is not counted.
    pub(super) fn bytes(&self) -> &OwnedFd {
        &self.bytes
    }

    /// Sends bytes. Exits if they have no reader any more.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        if fd::write_all(self.bytes.as_raw_fd(), bytes).is_err() {
            process::exit(0);
        }
        self.sent += bytes.len() as u64;
    }

    /// Reports what has happened after the bytes that were sent.
    pub(super) fn report(&self, kind: NoticeKind) {
        let at = self.sent;
        // Without a reader, bytes have none either.
        let _ = fd::write_all(
            self.notices.as_raw_fd(),
            &StreamNotice { kind, at }.encode(),
        );
    }
}

/// Fails for what can never be read: a folder, a descriptor that is open for writing only. Reads nothing.
pub(super) fn check_readable(fd: RawFd) -> Sys<()> {
    match fd::read(fd, &mut []) {
        Err(errno @ Errno(libc::EBADF | libc::EISDIR)) => Err(errno),
        // Other descriptors may refuse a buffer of this size, and no other.
        _ => Ok(()),
    }
}
