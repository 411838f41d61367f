//! What a frame belongs to: a lane, a call, a stream of the call.

use std::fmt;

/// An owner of guest state that calls are sent to: the VM or a worker.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Lane(pub u32);

impl Lane {
    /// The agent itself: figures, quiesce, identity, power.
    pub const AGENT: Self = Self(0);
    /// The VM: its commands, files and raw syscalls. Starts and retires workers.
    pub const VM: Self = Self(1);
    /// Workers count up from here.
    pub const FIRST_WORKER: Self = Self(16);
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::AGENT => f.write_str("agent"),
            Self::VM => f.write_str("vm"),
            Self(worker) => write!(f, "worker {worker}"),
        }
    }
}

/// Identifies an operation of a lane. Chosen by the host, unique among the calls of a session that are open.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct CallId(pub u32);

impl CallId {
    /// Ids from here on are the agent's own, for calls between its processes. The host counts below.
    pub const FIRST_INTERNAL: Self = Self(0x8000_0000);
}

/// A byte stream inside a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum StreamId {
    /// Host to guest: a command's standard input, the content of a written file.
    Input = 0,
    /// Guest to host: a command's standard output, the content of a read file.
    Output = 1,
    /// Guest to host: a command's standard error.
    Error = 2,
}

impl StreamId {
    /// All streams, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Input, Self::Output, Self::Error];

    pub(super) fn from_wire(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }
}
