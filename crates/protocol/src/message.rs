//! Messages other than requests: hellos, replies, events, errors.

use crate::frame::Lane;
use crate::op::{Descriptor, DiskNode, NicCounters};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// Host to agent: starts a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostHello {
    /// [`PROTOCOL_VERSION`](crate::PROTOCOL_VERSION) of the host.
    pub protocol: u32,
    /// Hash of the sources that host and agent were built from.
    pub build: String,
    /// The session's number: the agent's [`Hello`] repeats it.
    pub session: u64,
}

/// Agent to host: announces the agent (session 0), or answers a [`HostHello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`](crate::PROTOCOL_VERSION) of the agent.
    pub protocol: u32,
    /// Hash of the sources that the agent was built from.
    pub build: String,
    /// The session of the [`HostHello`]; 0 in the announcement.
    pub session: u64,
    /// `uname -r`.
    pub kernel: String,
    /// Whether the agent is PID 1 (the image has no init to continue with).
    pub is_init: bool,
    /// CLOCK_BOOTTIME when this was written, nanoseconds.
    pub uptime_ns: u64,
    /// What the agent could not do of the boot plan, one line each.
    pub warnings: Vec<String>,
}

/// The outcome of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// It is done.
    Done,
    /// Bytes.
    Bytes(ByteBuf),
    /// How many bytes were moved, or where an offset now is.
    Count(u64),
    /// A command ended; its output went before, on the call's streams.
    Exited(Exit),
    /// A command ended, with its output (a collecting [`Exec`](crate::op::Exec)).
    Ran {
        /// How it ended.
        exit: Exit,
        /// Its standard output.
        stdout: ByteBuf,
        /// Its standard error.
        stderr: ByteBuf,
        /// Bytes dropped from the middle of the standard output.
        stdout_dropped: u64,
        /// Bytes dropped from the middle of the standard error.
        stderr_dropped: u64,
    },
    /// A file's metadata.
    Stat(FileStat),
    /// A folder's entries, without `.` and `..`, sorted by name.
    Entries(Vec<DirEntry>),
    /// A descriptor of the lane's raw process.
    Opened(Descriptor),
    /// A raw syscall returned.
    Syscall {
        /// What it returned: -1 on failure.
        ret: i64,
        /// 0, or the errno.
        errno: i32,
        /// One per buffer of the request that is returned, in order; `None` for the others.
        buffers: Vec<Option<ByteBuf>>,
    },
    /// A worker was started.
    Worker {
        /// Its lane.
        lane: Lane,
        /// Its process id in the guest.
        pid: u32,
    },
    /// All children of a worker have ended.
    Joined {
        /// The worst of their exit codes; 128 + signal for a signalled one; 0 if none ran.
        exit_code: i32,
        /// How many ran.
        children: u32,
    },
    /// The entries' results, in order. Fewer than entries when the results grew large: the others
    /// have not begun, and the host sends them again.
    Batch(Vec<Result<Reply, WireError>>),
    /// Nanoseconds since 1970 on the guest's CLOCK_REALTIME.
    Clock(i64),
    /// Figures about the guest.
    Stats(GuestStats),
    /// What a wait has found.
    Waited(WaitResult),
    /// Figures about a NIC.
    NicCounters(NicCounters),
    /// The device nodes of the disks of the request, in its order.
    Disks(Vec<DiskNode>),
}

/// What an [`Op::WaitFor`](crate::Op) has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WaitResult {
    /// The file.
    File(FileStat),
    /// The server accepts connections.
    Server,
    /// The ids of the processes, ascending.
    Processes(Vec<u32>),
    /// The condition does not hold yet.
    TimedOut {
        /// Result of the last check.
        errno: i32,
    },
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code; `None` when it was killed by a signal, or when it is unknown (the test's own
    /// code reaped it).
    pub code: Option<i32>,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// From its start to its end on the guest's CLOCK_MONOTONIC, nanoseconds.
    pub duration_ns: u64,
}

/// The type of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryType {
    /// Regular file.
    File,
    /// Directory.
    Dir,
    /// Symbolic link.
    Symlink,
    /// FIFO.
    Fifo,
    /// Socket.
    Socket,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
    /// The file system does not report it.
    Unknown,
}

/// A file's metadata, from `statx(2)`; links are followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStat {
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Nanoseconds within that second.
    pub mtime_ns: u32,
    /// Permission bits, `0o7777`.
    pub perm: u32,
    /// What it is.
    pub entry_type: EntryType,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Inode number.
    pub ino: u64,
    /// Hard links.
    pub nlink: u64,
}

/// One name in a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirEntry {
    /// The name, as the guest has it.
    #[serde(with = "serde_bytes")]
    pub name: Vec<u8>,
    /// What it is; links are not followed.
    pub entry_type: EntryType,
}

/// A worker that was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpawnedWorker {
    /// Its lane.
    pub lane: Lane,
    /// Its process id in the guest.
    pub pid: u32,
}

/// Summary of the background commands of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinSummary {
    /// The worst of their exit codes; 128 + signal for one that a signal killed; 0 if there were none.
    pub exit_code: i32,
    /// How many there were.
    pub children: u32,
}

/// Result of a raw syscall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyscallResult {
    /// What it returned: -1 on failure.
    pub ret: i64,
    /// 0, or the errno.
    pub errno: i32,
    /// One for each buffer of the request; `None` for those that are not returned.
    pub buffers: Vec<Option<Vec<u8>>>,
}

/// Figures about the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestStats {
    /// CLOCK_BOOTTIME, nanoseconds.
    pub uptime_ns: u64,
    /// `MemTotal`, bytes.
    pub memory_total: u64,
    /// `MemAvailable`, bytes.
    pub memory_available: u64,
    /// Processes.
    pub processes: u32,
}

/// Progress of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The command runs. This is not reported for a foreground command that ends soon.
    Started {
        /// Its process id in the guest.
        pid: u32,
    },
    /// The raw syscall is about to be made by this thread.
    Entered {
        /// The thread's id in the guest.
        tid: u32,
    },
    /// The raw process is busy or stopped: the call waits for it.
    Waiting,
    /// The connection is established.
    Connected,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct WireError {
    /// The kind of failure.
    pub kind: ErrorKind,
    /// The errno, for [`ErrorKind::Os`].
    pub errno: i32,
    /// What was tried, for a reader: `open`, `exec /bin/nope`.
    pub message: String,
}

/// The kind of a [`WireError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorKind {
    /// The guest's kernel refused: see the errno.
    Os,
    /// The host cancelled the call.
    Cancelled,
    /// The raw process of the lane ended while the call was open; the message says how.
    LaneDied,
    /// The raw process that had the descriptor has ended.
    StaleDescriptor,
    /// The content does not fit into a reply; ask for it as a stream.
    TooLarge,
    /// The lane does not exist: its worker was closed, or the guest was rebooted.
    NoSuchLane,
    /// The request is invalid (an index out of range, a descriptor that is not open).
    Invalid,
}

/// Agent to host: a request of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuestRequest {
    /// The kernel module of this name or alias, with what it depends on.
    Module {
        /// A name (`ext4`) or an alias (`fs-ext4`).
        name: String,
    },
}

/// Host to agent: the reply to a guest request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostReply {
    /// The modules to load, in order; empty when the host knows no such name.
    Modules(Vec<ModuleFile>),
}

/// A kernel module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleFile {
    /// Its name, as in `/proc/modules`.
    pub name: String,
    /// Its uncompressed ELF object; empty: the module is built into the kernel.
    pub object: ByteBuf,
}
