//! A lane with its operations, typed. Files are in [`files`](crate::files).

use crate::channel::Channel;
use crate::command::Command;
use crate::cut::CommandMark;
use crate::error::CallError;
use crate::stream::GuestStream;
use provium_protocol::op::{Exec, Syscall, TailStart};
use provium_protocol::{Descriptor, Lane, Op, Reply};
use serde_bytes::ByteBuf;
use std::time::Duration;

/// A process in the guest that calls are sent to. Cheap to clone.
///
/// Dropping a future of it cancels the call in the guest.
#[derive(Debug, Clone)]
pub struct LaneHandle {
    channel: Channel,
    lane: Lane,
}

/// What a raw syscall came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyscallResult {
    /// What it returned: -1 on failure.
    pub ret: i64,
    /// 0, or the errno.
    pub errno: i32,
    /// One per buffer of the request; `None` for those not sent back.
    pub buffers: Vec<Option<Vec<u8>>>,
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

    /// Any op without channels.
    ///
    /// # Errors
    /// What the guest answers, and the end of the session.
    pub async fn request(&self, op: &Op) -> Result<Reply, CallError> {
        self.channel.request(self.lane, op).await
    }

    pub(crate) async fn done(&self, name: &'static str, op: &Op) -> Result<(), CallError> {
        match self.request(op).await? {
            Reply::Done => Ok(()),
            _ => Err(CallError::Unexpected(name)),
        }
    }

    pub(crate) async fn count(&self, name: &'static str, op: &Op) -> Result<u64, CallError> {
        match self.request(op).await? {
            Reply::Count(count) => Ok(count),
            _ => Err(CallError::Unexpected(name)),
        }
    }

    pub(crate) async fn bytes(&self, name: &'static str, op: &Op) -> Result<Vec<u8>, CallError> {
        match self.request(op).await? {
            Reply::Bytes(bytes) => Ok(bytes.into_vec()),
            _ => Err(CallError::Unexpected(name)),
        }
    }

    async fn clock(&self, name: &'static str, op: &Op) -> Result<i64, CallError> {
        match self.request(op).await? {
            Reply::Clock(ns) => Ok(ns),
            _ => Err(CallError::Unexpected(name)),
        }
    }

    /// Starts a command, see [`Command::start`].
    pub fn command(&self, exec: Exec, max_output: usize) -> Command {
        Command::start(self, exec, max_output)
    }

    /// Signals the lane's background commands; gives how many there were.
    ///
    /// # Errors
    /// As [`LaneHandle::request`].
    pub async fn signal_all(&self, signal: i32) -> Result<u64, CallError> {
        let everything = false;
        self.count("signal all", &Op::SignalAll { signal, everything })
            .await
    }

    /// Signals all commands of the lane; gives how many there were.
    ///
    /// # Errors
    /// As [`LaneHandle::request`].
    pub async fn signal_everything(&self, signal: i32) -> Result<u64, CallError> {
        let everything = true;
        self.count("signal all", &Op::SignalAll { signal, everything })
            .await
    }

    /// Waits for the lane's background commands; gives the worst exit code and how many ran.
    ///
    /// # Errors
    /// As [`LaneHandle::request`].
    pub async fn join(&self) -> Result<(i32, u32), CallError> {
        match self.request(&Op::Join).await? {
            Reply::Joined {
                exit_code,
                children,
            } => Ok((exit_code, children)),
            _ => Err(CallError::Unexpected("join")),
        }
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

    /// Makes a raw syscall.
    ///
    /// # Errors
    /// As [`LaneHandle::request`]; that the syscall itself failed is a result.
    pub async fn syscall(&self, call: Syscall) -> Result<SyscallResult, CallError> {
        let count = call.buffers.len();
        match self.request(&Op::Syscall(call)).await? {
            Reply::Syscall {
                ret,
                errno,
                buffers,
            } if buffers.len() == count => {
                let buffers = buffers
                    .into_iter()
                    .map(|it| it.map(ByteBuf::into_vec))
                    .collect();
                Ok(SyscallResult {
                    ret,
                    errno,
                    buffers,
                })
            }
            _ => Err(CallError::Unexpected("syscall")),
        }
    }

    /// Reads memory of the lane's process, at most 64 MiB.
    ///
    /// # Errors
    /// `EFAULT` when it is not mapped.
    pub async fn read_memory(&self, address: u64, len: u64) -> Result<Vec<u8>, CallError> {
        self.bytes("read memory", &Op::ReadMemory { address, len })
            .await
    }

    /// Writes memory of the lane's process.
    ///
    /// # Errors
    /// `EFAULT` when it is not mapped.
    pub async fn write_memory(&self, address: u64, data: Vec<u8>) -> Result<(), CallError> {
        let data = ByteBuf::from(data);
        self.done("write memory", &Op::WriteMemory { address, data })
            .await
    }

    /// The guest's CLOCK_REALTIME, nanoseconds since 1970.
    ///
    /// # Errors
    /// As [`LaneHandle::request`].
    pub async fn clock_get(&self) -> Result<i64, CallError> {
        self.clock("clock get", &Op::ClockGet).await
    }

    /// Sets the guest's CLOCK_REALTIME; gives it as it was set.
    ///
    /// # Errors
    /// As [`LaneHandle::request`].
    pub async fn clock_set(&self, ns: i64) -> Result<i64, CallError> {
        self.clock("clock set", &Op::ClockSet { ns }).await
    }

    /// Moves the guest's CLOCK_REALTIME; gives it as it was set.
    ///
    /// # Errors
    /// As [`LaneHandle::request`].
    pub async fn clock_advance(&self, ns: i64) -> Result<i64, CallError> {
        self.clock("clock advance", &Op::ClockAdvance { ns }).await
    }

    /// Sleeps on the guest's CLOCK_MONOTONIC.
    ///
    /// # Errors
    /// As [`LaneHandle::request`].
    pub async fn clock_sleep(&self, time: Duration) -> Result<(), CallError> {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.done("clock sleep", &Op::ClockSleep { ns }).await
    }
}
