//! A command that a guest sends to a disk, and how faults change it.

use rustix::io::Errno;
use std::time::Duration;

/// A command of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command {
    /// What it does.
    pub kind: CommandKind,
    /// Where it begins, bytes; 0 for a flush.
    pub offset: u64,
    /// How much it covers, bytes; 0 for a flush.
    pub length: u64,
    /// Force unit access: what it writes is durable before it completes.
    pub fua: bool,
}

/// What a command does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CommandKind {
    /// Reads bytes.
    Read,
    /// Writes bytes.
    Write,
    /// Writes zeroes.
    WriteZeroes,
    /// Marks bytes as unused; they read as zeroes afterwards.
    Discard,
    /// Makes all completed writes durable.
    Flush,
}

/// A command, and the decision about it when it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// The command.
    pub command: Command,
    /// How long it waits before it is carried out.
    pub delay: Duration,
    /// How it is carried out.
    pub effect: Effect,
}

/// How a command is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Without a fault.
    Normal,
    /// It fails, and changes nothing.
    Fail(Errno),
    /// A write: only its first `sectors` are written, and it succeeds.
    Tear {
        /// Sectors of 512 bytes.
        sectors: u64,
    },
    /// A flush, or a write with FUA: it succeeds and makes nothing durable.
    DropFlush,
    /// A read or a write: some of its bytes are changed, as the seed decides.
    Corrupt {
        /// Decides which bytes.
        seed: u64,
        /// Where the bytes begin that may be changed, bytes from the command's offset.
        start: u64,
        /// Where they end.
        end: u64,
    },
}

impl Admission {
    /// Without a delay and without a fault.
    pub fn normal(command: Command) -> Self {
        Self {
            command,
            delay: Duration::ZERO,
            effect: Effect::Normal,
        }
    }
}
