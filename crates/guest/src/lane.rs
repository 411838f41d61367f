//! A lane with its operations, typed. Files are in [`files`](crate::files).

use crate::channel::{Channel, typed};
use crate::command::Command;
use crate::cut::CommandMark;
use crate::error::CallError;
use crate::incoming::Sink;
use crate::stream::GuestStream;
use provium_protocol::message::SyscallResult;
use provium_protocol::op::{Exec, Syscall, TailStart};
use provium_protocol::{Descriptor, Lane, Op, Request};

/// A process in the guest that calls are sent to. Cheap to clone.
///
/// Dropping a future of it cancels the call in the guest.
#[derive(Debug, Clone)]
pub struct LaneHandle {
    channel: Channel,
    lane: Lane,
}

impl LaneHandle {
    pub(crate) fn new(channel: Channel, lane: Lane) -> Self {
        Self { channel, lane }
    }

    /// The command of a mark, on a channel that was resumed from the cut at which it was marked: its
    /// output begins with what had been captured then.
    pub fn take_up(&self, mark: &CommandMark) -> Command {
        Command::take_up(self, mark)
    }

    /// The channel it is of.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Its number.
    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// Makes a request and waits for its reply. Dropping the future cancels the call.
    ///
    /// # Errors
    /// What the guest answers, and the end of the session.
    pub async fn call<R: Request + Into<Op>>(&self, request: R) -> Result<R::Reply, CallError> {
        self.call_op::<R>(&request.into()).await
    }

    /// As [`LaneHandle::call`], of a request that is an operation already.
    ///
    /// # Errors
    /// As there; [`CallError::Unexpected`] also if `op` is another operation than `R`.
    pub async fn call_op<R: Request>(&self, op: &Op) -> Result<R::Reply, CallError> {
        let sinks = [Sink::Discard, Sink::Discard];
        let mut call = self.channel.open_into(self.lane, op, sinks);
        typed::<R>(call.reply().await?)
    }

    /// Starts a command, see [`Command::start`].
    pub fn command(&self, exec: Exec, max_output: usize) -> Command {
        Command::start(self, exec, max_output)
    }

    /// Follows a file.
    pub fn tail_file(&self, path: &[u8], start: TailStart) -> GuestStream {
        let op = Op::TailFile {
            path: path.to_vec(),
            start,
        };
        GuestStream::new(self.channel.open(self.lane, &op))
    }

    /// What a descriptor gives, up to its end.
    pub fn stream_fd(&self, fd: impl Into<Descriptor>) -> GuestStream {
        let fd = fd.into();
        GuestStream::new(self.channel.open(self.lane, &Op::StreamFd { fd }))
    }

    /// Follows an open file from its offset, which stays where it is; a pipe to its end.
    pub fn tail_fd(&self, fd: impl Into<Descriptor>) -> GuestStream {
        let fd = fd.into();
        GuestStream::new(self.channel.open(self.lane, &Op::TailFd { fd }))
    }

    /// Makes a raw syscall. That the syscall itself failed is a result.
    ///
    /// # Errors
    /// As of [`LaneHandle::call`].
    pub async fn syscall(&self, request: Syscall) -> Result<SyscallResult, CallError> {
        let count = request.buffers.len();
        let result = self.call(request).await?;
        if result.buffers.len() != count {
            return Err(CallError::Unexpected(Syscall::NAME));
        }
        Ok(result)
    }
}
