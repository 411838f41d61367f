//! What the host can ask of a lane. `crates/agent/src/ops` carries each out.
//!
//! | sent to | ops |
//! |---|---|
//! | [`Lane::AGENT`] | [`Op::PowerOff`], [`Op::Stats`], [`Op::Quiesce`], [`Op::SetIdentity`] |
//! | [`Lane::VM`] | [`Op::SpawnWorker`], [`Op::RetireWorker`] |
//! | [`Lane::VM`], a worker | all others |
//!
//! Paths, arguments and environment are bytes, as the kernel has them.

use crate::frame::{CallId, Lane};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Starts a worker → [`Reply::Worker`](crate::Reply::Worker).
    SpawnWorker(WorkerSpec),
    /// Ends a worker's process and everything it owns → `Done`. Done already: `Done`.
    RetireWorker {
        /// The worker's lane.
        lane: Lane,
    },
    /// Runs the ops one after the other, in order, whatever each comes to → `Batch`. No entry may use
    /// channels.
    Batch {
        /// The entries.
        ops: Vec<Op>,
    },
    /// Writes back what is dirty and switches the machine off. The reply may not arrive.
    PowerOff,
    /// Figures about the guest → `Stats`.
    Stats,
    /// Comes to a *cut*: what has begun to be sent is sent, then the reply (`Done`), and then not a
    /// byte until the next frame from the host. The host in turn sends nothing after this request
    /// but answers to asks that the agent still has. So nothing is under way when the reply is here,
    /// and a copy of the guest can go on from this moment on another stream.
    Quiesce,
    /// Sets clock, host name and randomness, after a boot, a reboot or a restore → `Done`.
    SetIdentity(SetIdentity),

    /// Runs a command → `Exited` (or `Ran`, when collecting), [`Event::Started`](crate::Event) before.
    Exec(Exec),
    /// Signals the command that a call of this lane runs → `Done`; `ESRCH` when it has ended.
    Signal {
        /// The call of the [`Op::Exec`].
        call: CallId,
        /// Signal number.
        signal: i32,
        /// Who gets it.
        target: SignalTarget,
    },
    /// Signals every command in flight whose [`Exec::background`] is set → `Count`, how many.
    SignalAll {
        /// Signal number.
        signal: i32,
        /// The other commands, too.
        everything: bool,
    },
    /// Waits for every command → `Joined`, about those with [`Exec::background`].
    Join,

    /// The content on the output channel → `Count`; with `inline`, `Bytes` instead.
    ReadFile {
        /// Path.
        #[serde(with = "serde_bytes")]
        path: Vec<u8>,
        /// Send the content in the reply (for batches).
        inline: bool,
    },
    /// Creates or replaces a file with what comes on the input channel, or with `content` → `Count`.
    WriteFile {
        /// Path.
        #[serde(with = "serde_bytes")]
        path: Vec<u8>,
        /// Permission bits: set exactly when given, else `0o644` less umask for a new file.
        perm: Option<u32>,
        /// Keep what is there and add to it.
        append: bool,
        /// The content; `None`: it comes on the input channel.
        content: Option<ByteBuf>,
    },
    /// → `Stat`. Follows links.
    Stat {
        /// Path.
        #[serde(with = "serde_bytes")]
        path: Vec<u8>,
    },
    /// → `Entries`.
    ListDir {
        /// Path.
        #[serde(with = "serde_bytes")]
        path: Vec<u8>,
    },
    /// → `Done`. With `parents`: like `mkdir -p`, no error when it is there.
    MakeDir {
        /// Path.
        #[serde(with = "serde_bytes")]
        path: Vec<u8>,
        /// Make what is missing above, too.
        parents: bool,
        /// Permission bits, set exactly when given; else `0o755` less umask.
        perm: Option<u32>,
    },
    /// Removes a file, link or empty folder → `Done`.
    Unlink {
        /// Path.
        #[serde(with = "serde_bytes")]
        path: Vec<u8>,
    },
    /// → `Done`.
    Rename {
        /// Path now.
        #[serde(with = "serde_bytes")]
        from: Vec<u8>,
        /// Path then.
        #[serde(with = "serde_bytes")]
        to: Vec<u8>,
    },
    /// → `Done`.
    Chmod {
        /// Path.
        #[serde(with = "serde_bytes")]
        path: Vec<u8>,
        /// Permission bits.
        perm: u32,
    },
    /// → `Done`.
    Symlink {
        /// What the link says.
        #[serde(with = "serde_bytes")]
        target: Vec<u8>,
        /// Where the link stands.
        #[serde(with = "serde_bytes")]
        path: Vec<u8>,
    },
    /// → `Bytes`, what the link says.
    ReadLink {
        /// Path.
        #[serde(with = "serde_bytes")]
        path: Vec<u8>,
    },

    /// → `Opened`.
    Open {
        /// Path.
        #[serde(with = "serde_bytes")]
        path: Vec<u8>,
        /// `O_*` flags of `open(2)`; `O_CLOEXEC` is added.
        flags: i32,
        /// Permission bits for a new file, less umask.
        perm: u32,
    },
    /// Up to `max` bytes in one `read(2)` → `Bytes`, empty at the end of the file.
    ReadFd {
        /// Descriptor.
        fd: Descriptor,
        /// At most this many, and at most 1 MiB.
        max: u32,
    },
    /// What the descriptor gives up to its end, on the output channel → `Count`.
    StreamFd {
        /// Descriptor.
        fd: Descriptor,
    },
    /// What comes on the input channel is written → `Count`.
    WriteFd {
        /// Descriptor.
        fd: Descriptor,
    },
    /// `lseek(2)` → `Count`, the new offset.
    SeekFd {
        /// Descriptor.
        fd: Descriptor,
        /// Offset.
        offset: i64,
        /// From where.
        whence: Whence,
    },
    /// → `Done`. A descriptor whose process has ended counts as closed.
    CloseFd {
        /// Descriptor.
        fd: Descriptor,
    },
    /// A file's bytes as they are added, on the output channel, until cancelled. A file that gets
    /// shorter is read again from its start; one that is replaced is followed by name.
    TailFile {
        /// Path.
        #[serde(with = "serde_bytes")]
        path: Vec<u8>,
        /// Where to begin.
        start: TailStart,
    },

    /// Whether the raw process that had a descriptor is still there → `Done`.
    CheckFd {
        /// Descriptor.
        fd: Descriptor,
    },
    /// Follows an open file from its offset as [`Op::TailFile`] does.
    TailFd {
        /// Descriptor.
        fd: Descriptor,
    },

    /// A raw syscall → `Syscall`.
    Syscall(Syscall),
    /// Memory of the lane's process → `Bytes`; `EFAULT` when not mapped.
    ReadMemory {
        /// Address.
        address: u64,
        /// Bytes, at most 64 MiB.
        len: u64,
    },
    /// Memory of the lane's process → `Done`; `EFAULT` when not mapped.
    WriteMemory {
        /// Address.
        address: u64,
        /// What to put there.
        data: ByteBuf,
    },

    /// CLOCK_REALTIME → `Clock`.
    ClockGet,
    /// Sets CLOCK_REALTIME → `Clock`, as it was set.
    ClockSet {
        /// Nanoseconds since 1970.
        ns: i64,
    },
    /// Moves CLOCK_REALTIME by so much, read and set without anything between → `Clock`.
    ClockAdvance {
        /// Nanoseconds, either way.
        ns: i64,
    },
    /// Sleeps on the guest's CLOCK_MONOTONIC → `Done`.
    ClockSleep {
        /// Nanoseconds.
        ns: u64,
    },
}

/// A descriptor of a raw process. A raw process that ends takes its descriptors with it; the next one
/// has another generation, so a number that was used again is not mistaken for the old file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Descriptor {
    /// The number.
    pub number: i32,
    /// Of the raw process that has it; 0: of whichever process there is.
    pub generation: u64,
}

impl From<i32> for Descriptor {
    /// A bare number.
    fn from(number: i32) -> Self {
        Self {
            number,
            generation: 0,
        }
    }
}

/// Who gets the signal of [`Op::Signal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignalTarget {
    /// The process.
    Process,
    /// Its process group.
    Group,
    /// Its process group, and its descendants that have left the group.
    Tree,
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// What to run.
    pub program: Program,
    /// Added to the environment (which holds PATH, HOME, TERM… of the lane), or replacing.
    pub env: Vec<(ByteBuf, ByteBuf)>,
    /// Start from an empty environment.
    pub env_clear: bool,
    /// Working directory; else the lane's.
    pub cwd: Option<ByteBuf>,
    /// User to become: a name of the guest's `/etc/passwd`, or a number; its groups too.
    pub user: Option<String>,
    /// Give it a terminal of its own: output and error both come on the output channel.
    pub tty: bool,
    /// Where its standard input comes from.
    pub stdin: Stdin,
    /// Belongs to the `run_async` family: [`Op::SignalAll`] and [`Op::Join`] mean it.
    pub background: bool,
    /// Send the output with the reply, at most this many bytes a stream (for batches); what is dropped
    /// comes from the middle.
    pub collect: Option<u32>,
}

/// What a command runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    /// `/bin/sh -c` with this text.
    Shell(ByteBuf),
    /// A program (looked for in PATH when it has no slash) and its arguments.
    Argv(Vec<ByteBuf>),
}

/// Where a command's standard input comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdin {
    /// `/dev/null`.
    Null,
    /// The input channel.
    Channel,
    /// These bytes.
    Bytes(ByteBuf),
}

/// From where [`Op::SeekFd`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Whence {
    /// The file's start.
    Set,
    /// Where the offset is.
    Current,
    /// The file's end.
    End,
}

/// Where [`Op::TailFile`] begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TailStart {
    /// The file's start.
    Beginning,
    /// The file's end.
    End,
    /// This offset.
    At(u64),
    /// This many bytes before the end (or the start, if the file is shorter).
    BeforeEnd(u64),
}

/// A raw syscall: [`Event::Entered`](crate::Event) is sent for one in the background.
///
/// Buffers are placed in the raw process's memory first; then the addresses go where `pointers` and
/// `nested` say; then the call is made by that process's one thread (or, with `background`, by a
/// further thread that starts with the first one's identity).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Syscall {
    /// Number, x86-64.
    pub nr: i64,
    /// All six arguments.
    pub args: [i64; 6],
    /// Memory that the call may read and write.
    pub buffers: Vec<Buffer>,
    /// `pointers[i]` is the argument slot, 0 to 5, that gets the address of `buffers[i]`; -1: none.
    pub pointers: Vec<i8>,
    /// Pointers inside buffers.
    pub nested: Vec<Link>,
    /// Made by a thread of its own.
    pub background: bool,
}

/// Memory for a raw syscall.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buffer {
    /// What it holds at first; `len` beyond that is zero.
    #[serde(with = "serde_bytes")]
    pub content: Vec<u8>,
    /// Bytes in all.
    pub len: u64,
    /// Alignment in bytes, a power of two, 16 to 1 MiB.
    pub align: u32,
    /// Whether it is sent back.
    pub returned: bool,
}

/// A pointer inside a buffer: the 8 bytes at `offset` of `parent` get the address of `child` plus
/// `child_offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Index (from 0) of the buffer that holds the pointer.
    pub parent: u32,
    /// Index (from 0) of the buffer pointed to.
    pub child: u32,
    /// Where in the parent.
    pub offset: u64,
    /// Where in the child.
    pub child_offset: u64,
}

/// What makes one guest differ from another. A field that is not given is not changed.
///
/// It is the only way in which a guest gets an identity: a template, which is saved before, contains
/// none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetIdentity {
    /// CLOCK_REALTIME, nanoseconds since 1970; a hardware clock is set to the same time.
    pub realtime_ns: Option<i64>,
    /// The host name; ignored unless the agent is the init, since another init sets the name itself.
    pub hostname: Option<String>,
    /// Bytes that the kernel's random number generator is reseeded with; empty: it is not.
    #[serde(with = "serde_bytes")]
    pub entropy: Vec<u8>,
    /// Discard the bytes of the hardware random number generator that the kernel has read ahead, since
    /// other copies of this guest have the same ones.
    pub fresh_hwrng: bool,
}

/// How a worker starts. It begins as a copy of the raw lane's process: its descriptors, identity,
/// working directory and umask; then this.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerSpec {
    /// User to become, as in [`Exec::user`].
    pub user: Option<String>,
    /// Working directory.
    pub cwd: Option<ByteBuf>,
    /// Environment of its commands, added to the usual one.
    pub env: Vec<(ByteBuf, ByteBuf)>,
    /// Namespaces of its own: `mnt`, `net`, `uts`, `ipc`, `pid`, `user`, `cgroup`, `time`.
    pub namespaces: Vec<String>,
}
