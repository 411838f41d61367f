//! Streams of bytes from a guest: a file that is followed, the content of a descriptor.

use crate::call::{Call, Output};
use crate::error::CallError;
use crate::lane::LaneHandle;
use provium_protocol::op::TailStart;
use provium_protocol::{Descriptor, Op, Reply, StreamId};

/// The output of one call, with its outcome at the end. Dropping it ends the call in the guest.
#[derive(Debug)]
pub struct GuestStream {
    call: Call,
    output: Output,
    received: u64,
    ended: bool,
}

impl GuestStream {
    pub(crate) fn new(call: Call) -> Self {
        let output = call.output(StreamId::Output);
        Self {
            call,
            output,
            received: 0,
            ended: false,
        }
    }

    /// The next bytes, at least one; `None` at the end. Dropping the future loses nothing. What is
    /// not read waits in the guest, beyond a window.
    ///
    /// # Errors
    /// What the guest answers, after the bytes that came before; and the end of the session.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, CallError> {
        if self.ended {
            return Ok(None);
        }
        if let Some(bytes) = self.output.next().await? {
            self.received += bytes.len() as u64;
            return Ok(Some(bytes));
        }
        let reply = self.call.reply().await;
        self.ended = true;
        match reply? {
            Reply::Count(said) if said != self.received => Err(CallError::Incomplete {
                said,
                got: self.received,
            }),
            Reply::Count(_) | Reply::Done => Ok(None),
            _ => Err(CallError::Unexpected("stream")),
        }
    }

    /// Bytes given so far.
    pub fn received(&self) -> u64 {
        self.received
    }
}

impl LaneHandle {
    /// Follows a file.
    pub fn tail_file(&self, path: &[u8], start: TailStart) -> GuestStream {
        let op = Op::TailFile {
            path: path.to_vec(),
            start,
        };
        GuestStream::new(self.channel().open(self.lane(), &op))
    }

    /// Reads a descriptor to its end.
    pub fn stream_fd(&self, fd: impl Into<Descriptor>) -> GuestStream {
        let fd = fd.into();
        GuestStream::new(self.channel().open(self.lane(), &Op::StreamFd { fd }))
    }

    /// Follows an open file from its offset, which stays where it is; a pipe to its end.
    pub fn tail_fd(&self, fd: impl Into<Descriptor>) -> GuestStream {
        let fd = fd.into();
        GuestStream::new(self.channel().open(self.lane(), &Op::TailFd { fd }))
    }
}
