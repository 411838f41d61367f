//! What the host can ask for.
//!
//! [`AgentOp`]s are sent to [`Lane::AGENT`](crate::Lane::AGENT), [`Op`]s to the VM's lane or a
//! worker's. An operation with one reply and no streams has a type of its own, which is a
//! [`Request`]: the reply's type follows from it. `crates/agent` carries the operations out.

mod agent;
mod command;
mod descriptor;
mod disk;
mod identity;
mod lane;
mod network;
mod notice;
mod reply;
mod request;
mod syscall;
mod wait;
mod worker;

pub use agent::{AgentOp, Quiesce, Stats};
pub use command::{Exec, Program, SignalTarget, Stdin, WindowSize};
pub use descriptor::{Descriptor, TailStart, Whence};
pub use disk::{DiskConfig, DiskMount, DiskNode, SetDisks};
pub use identity::SetIdentity;
pub use lane::{
    Batch, CheckFd, Chmod, ClockAdvance, ClockGet, ClockSet, ClockSleep, CloseFd, Join, ListDir,
    MakeDir, Op, OpClass, Open, ReadFd, ReadLink, ReadMemory, Rename, ResizeTerminal, RetireWorker,
    SeekFd, Signal, SignalAll, Stat, Symlink, Unlink, WaitFor, WriteFile, WriteMemory,
};
pub use network::{
    HostEntry, InterfaceAddress, NicConfig, NicCounters, ReadNicCounters, Route, SetNetwork,
};
pub use notice::{NoticeKind, StreamNotice};
pub use request::{FromReply, Request};
pub use syscall::{Buffer, Link, Syscall};
pub use wait::{Address, Condition};
pub use worker::WorkerSpec;
