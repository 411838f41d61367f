//! The kind of a call, as far as other calls depend on it.

use provium_protocol::{Descriptor, Op};

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

impl CallKind {
    pub(crate) fn of(op: &Op) -> Self {
        match op {
            Op::Exec(exec) => Self::Command {
                background: exec.background,
            },
            Op::Syscall(call) if !call.background => Self::Raw { nr: call.nr },
            Op::ReadFd { fd, .. }
            | Op::StreamFd { fd, .. }
            | Op::WriteFd { fd }
            | Op::SeekFd { fd, .. } => Self::Descriptor { fd: *fd },
            _ => Self::Other,
        }
    }
}
