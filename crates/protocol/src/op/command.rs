//! A command: what it runs, with which environment and input.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// A command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// What to run.
    pub program: Program,
    /// Added to the lane's environment (PATH, HOME, TERM …); a name that is there already is replaced.
    pub env: Vec<(ByteBuf, ByteBuf)>,
    /// Start from an empty environment.
    pub env_clear: bool,
    /// Working directory; `None`: the lane's.
    pub cwd: Option<ByteBuf>,
    /// User to run as: a name of the guest's `/etc/passwd`, or a number. The groups follow from it.
    pub user: Option<String>,
    /// Run with a controlling terminal: standard output and error are both sent on the output stream.
    pub tty: bool,
    /// The size of that terminal when the command begins.
    pub window: WindowSize,
    /// Where standard input comes from.
    pub stdin: Stdin,
    /// The command is one of those that [`Op::SignalAll`](crate::Op) and [`Op::Join`](crate::Op)
    /// mean.
    pub background: bool,
    /// Send the output with the reply, at most this many bytes a stream (for batches). If there is
    /// more, the middle is dropped.
    pub collect: Option<u32>,
}

impl Exec {
    /// The program with the lane's environment and user, and no input.
    pub fn new(program: Program) -> Self {
        Self {
            program,
            env: Vec::new(),
            env_clear: false,
            cwd: None,
            user: None,
            tty: false,
            window: WindowSize::default(),
            stdin: Stdin::Null,
            background: false,
            collect: None,
        }
    }

    /// A command line of `/bin/sh`, otherwise as [`Exec::new`].
    pub fn shell(line: impl Into<Vec<u8>>) -> Self {
        Self::new(Program::Shell(ByteBuf::from(line.into())))
    }
}

/// The size of a terminal, in characters; `struct winsize` of Linux without the pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

impl Default for WindowSize {
    /// 24 lines of 80 characters.
    fn default() -> Self {
        Self {
            rows: 24,
            columns: 80,
        }
    }
}

/// What a command runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    /// `/bin/sh -c` with this text.
    Shell(ByteBuf),
    /// A program and its arguments. It is looked up in PATH if it has no slash.
    Argv(Vec<ByteBuf>),
}

/// Where a command's standard input comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdin {
    /// `/dev/null`.
    Null,
    /// The input stream of the call.
    Channel,
    /// These bytes.
    Bytes(ByteBuf),
}

/// Which processes get the signal of [`Op::Signal`](crate::Op).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignalTarget {
    /// The command's process.
    Process,
    /// Its process group.
    Group,
    /// Its process group, and its descendants that have left the group.
    Tree,
}
