//! What a call does, as far as other calls have to know.

use crate::channel::Channel;
use provium_protocol::{Lane, Op};
use std::time::Duration;

/// What a call does.
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
            _ => Self::Other,
        }
    }
}

impl Channel {
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
