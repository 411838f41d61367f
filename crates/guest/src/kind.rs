//! The kind of a call, as far as other calls depend on it.

use crate::channel::Channel;
use crate::lane::LaneHandle;
use provium_protocol::{Descriptor, Lane, Op};
use std::time::Duration;

/// The kind of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallKind {
    /// Runs a command; `background`: of the `run_async` family.
    Command {
        /// Whether it is of the `run_async` family.
        background: bool,
    },
    /// Makes a raw syscall on the lane's one thread for them.
    Raw {
        /// Its number.
        nr: i64,
    },
    /// Reads, writes or moves an open file, and may wait in it.
    Descriptor {
        /// Of the lane's process.
        fd: Descriptor,
    },
    /// Anything else.
    Other,
    /// It was open at a cut, which does not say what it does.
    Unknown,
}

/// A raw syscall that has not returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockingCall {
    /// Its number, x86-64.
    pub nr: i64,
    /// How long ago it was sent.
    pub waiting: Duration,
}

impl CallKind {
    pub(crate) fn of(op: &Op) -> Self {
        match op {
            Op::Exec(exec) => Self::Command {
                background: exec.background,
            },
            Op::Syscall(call) if !call.background => Self::Raw { nr: call.nr },
            Op::ReadFd { fd, .. }
            | Op::StreamFd { fd }
            | Op::WriteFd { fd }
            | Op::SeekFd { fd, .. } => Self::Descriptor { fd: *fd },
            _ => Self::Other,
        }
    }
}

impl LaneHandle {
    /// Cancels the calls that use a descriptor, before it is closed: they may block in it for ever. Their
    /// callers get the error that they were cancelled.
    pub fn cancel_calls_on(&self, fd: Descriptor) {
        let shared = self.channel().shared();
        for call in shared.open_calls(self.lane()) {
            if call.kind() == (CallKind::Descriptor { fd }) {
                shared.abandon(&call);
            }
        }
    }
}

impl Channel {
    /// The raw syscalls that have not returned, the oldest of each lane.
    pub fn blocking_calls(&self) -> Vec<(Lane, BlockingCall)> {
        let lanes = self.shared().lanes_in_use().into_iter();
        let blocking = lanes.filter_map(|lane| Some((lane, self.blocking_call(lane)?)));
        blocking.collect()
    }

    /// The raw syscall of a lane that has waited longest for its result; what needs the same thread
    /// waits behind it.
    pub fn blocking_call(&self, lane: Lane) -> Option<BlockingCall> {
        let calls = self.shared().open_calls(lane);
        calls.iter().find_map(|cell| match cell.kind() {
            CallKind::Raw { nr } => Some(BlockingCall {
                nr,
                waiting: cell.opened.elapsed(),
            }),
            _ => None,
        })
    }
}
