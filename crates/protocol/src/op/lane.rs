//! The operations of a lane: of the VM or of a worker.

use super::command::{Exec, SignalTarget, WindowSize};
use super::descriptor::{Descriptor, TailStart, Whence};
use super::request::{Request, operations, request};
use super::syscall::Syscall;
use super::wait::{Address, Condition};
use super::worker::WorkerSpec;
use crate::frame::{CallId, Lane};
use crate::message::{
    DirEntry, FileStat, JoinSummary, Reply, SpawnedWorker, SyscallResult, WaitResult, WireError,
};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// What an operation needs in the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpClass {
    /// Nothing: the executor carries it out itself.
    Executor,
    /// The raw process itself, because the operation changes it or runs its code.
    RawProcess,
    /// An operation process that resolves paths, so one with the raw process's root.
    Path,
    /// An operation process that uses a descriptor of the raw process.
    Descriptor,
}

operations! {
    /// One request to a lane. Paths, arguments and environment are bytes, as in the kernel.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    pub enum Op by OpClass {
        /// Starts a worker; only on the VM's lane.
        SpawnWorker(WorkerSpec) -> SpawnedWorker, RawProcess;
        /// Ends a worker's process and everything it owns; only on the VM's lane. Succeeds if the
        /// worker has ended already.
        RetireWorker {
            /// The worker's lane.
            lane: Lane,
        } -> (), Executor;
        /// Runs the operations in order, each after the end of the one before, whether that failed or
        /// not. [`Op::fits_batch`] says which are allowed. The reply may have fewer results than there
        /// are operations: if the results grow large, the others are not begun, and the host sends
        /// them again.
        Batch {
            /// The operations.
            ops: Vec<Op>,
        } -> Vec<Result<Reply, WireError>>, Executor;

        /// Runs a command → `Exited`, or `Ran` with [`Exec::collect`].
        /// [`Event::Started`](crate::Event) comes before.
        Exec(Exec), Path;
        /// Signals the command of a call of this lane; `ESRCH` if it has ended.
        Signal {
            /// The call of the [`Op::Exec`].
            call: CallId,
            /// Signal number.
            signal: i32,
            /// Which processes get it.
            target: SignalTarget,
        } -> (), Executor;
        /// Sets the size of the terminal of a command that has started; the processes in its foreground
        /// get SIGWINCH if the size changes. `ESRCH` if the command has ended, `ENOTTY` if it has no
        /// terminal.
        ResizeTerminal {
            /// The call of the [`Op::Exec`].
            call: CallId,
            /// The new size.
            window: WindowSize,
        } -> (), Executor;
        /// Signals every running command with [`Exec::background`]; answered with their number.
        SignalAll {
            /// Signal number.
            signal: i32,
            /// Signal the other commands, too.
            everything: bool,
        } -> u64, Executor;
        /// Waits for every command; answered with a summary of those with [`Exec::background`].
        Join -> JoinSummary, Executor;

        /// Reads a file → `Count`, with the content on the output stream; with `inline` → `Bytes`.
        ReadFile {
            /// Path of the file.
            #[serde(with = "serde_bytes")]
            path: Vec<u8>,
            /// Send the content in the reply (for batches).
            inline: bool,
        }, Path;
        /// Creates or replaces a file; answered with the number of bytes.
        WriteFile {
            /// Path of the file.
            #[serde(with = "serde_bytes")]
            path: Vec<u8>,
            /// Permission bits, regardless of the umask. `None`: `0o644` less umask for a new file, and no
            /// change for an old one.
            perm: Option<u32>,
            /// Append to the old content.
            append: bool,
            /// The content; `None`: it comes on the input stream.
            content: Option<ByteBuf>,
        } -> u64, Path;
        /// `stat(2)`.
        Stat {
            /// Path of the file.
            #[serde(with = "serde_bytes")]
            path: Vec<u8>,
        } -> FileStat, Path;
        /// Lists a directory, sorted by name.
        ListDir {
            /// Path of the directory.
            #[serde(with = "serde_bytes")]
            path: Vec<u8>,
        } -> Vec<DirEntry>, Path;
        /// Creates a directory; with `parents` as `mkdir -p` does.
        MakeDir {
            /// Path of the directory.
            #[serde(with = "serde_bytes")]
            path: Vec<u8>,
            /// Create missing parents, and succeed if the directory exists.
            parents: bool,
            /// Permission bits, regardless of the umask; `None`: `0o755` less umask.
            perm: Option<u32>,
        } -> (), Path;
        /// Removes a file, a link or an empty directory.
        Unlink {
            /// Path of what is removed.
            #[serde(with = "serde_bytes")]
            path: Vec<u8>,
        } -> (), Path;
        /// `rename(2)`.
        Rename {
            /// The old path.
            #[serde(with = "serde_bytes")]
            from: Vec<u8>,
            /// The new path.
            #[serde(with = "serde_bytes")]
            to: Vec<u8>,
        } -> (), Path;
        /// `chmod(2)`.
        Chmod {
            /// Path of the file.
            #[serde(with = "serde_bytes")]
            path: Vec<u8>,
            /// Permission bits.
            perm: u32,
        } -> (), Path;
        /// Creates a symbolic link.
        Symlink {
            /// What the link contains.
            #[serde(with = "serde_bytes")]
            target: Vec<u8>,
            /// Path of the link.
            #[serde(with = "serde_bytes")]
            path: Vec<u8>,
        } -> (), Path;
        /// Reads what a symbolic link contains.
        ReadLink {
            /// Path of the link.
            #[serde(with = "serde_bytes")]
            path: Vec<u8>,
        } -> Vec<u8>, Path;
        /// Sends the bytes that are appended to a file on the output stream, until the call is cancelled. A
        /// file that becomes shorter is read again from its start; one that is replaced is followed by
        /// name. [`StreamNotice`](super::StreamNotice)s on the error stream say when.
        TailFile {
            /// Path of the file.
            #[serde(with = "serde_bytes")]
            path: Vec<u8>,
            /// Where to begin.
            start: TailStart,
        }, Path;

        /// Waits until a condition holds, or for `timeout_ns` at most.
        WaitFor {
            /// The condition.
            condition: Condition,
            /// Nanoseconds between two checks.
            interval_ns: u64,
            /// Nanoseconds after which it ends; there is at least one check.
            timeout_ns: u64,
        } -> WaitResult, Path;
        /// Connects to a server → `Done`. [`Event::Connected`](crate::Event) comes first, then the two
        /// streams: the input stream is sent to the server, the output stream is what the server sends.
        /// Each ends by itself, and the call with the last of them. It fails with the errno of the
        /// connection: if the server resets it, the output stream has no end. A cancel closes the
        /// connection once the server has taken the input that was sent before.
        Connect {
            /// The server.
            address: Address,
        }, Path;
        /// Sends a directory and all that is in it, as [`tree`](crate::tree) records on the output
        /// stream → `Count` of the bytes.
        PackTree {
            /// Path of the directory.
            #[serde(with = "serde_bytes")]
            path: Vec<u8>,
        }, Path;
        /// Creates in a directory what the [`tree`](crate::tree) records on the input stream say. Creates
        /// the directory and its parents if they do not exist.
        UnpackTree {
            /// Path of the directory.
            #[serde(with = "serde_bytes")]
            path: Vec<u8>,
        } -> (), Path;

        /// Opens a file in the raw process.
        Open {
            /// Path of the file.
            #[serde(with = "serde_bytes")]
            path: Vec<u8>,
            /// `O_*` flags of `open(2)`; `O_CLOEXEC` is added.
            flags: i32,
            /// Permission bits of a new file, less umask.
            perm: u32,
        } -> Descriptor, RawProcess;
        /// Up to `max` bytes in one `read(2)`; empty at the end of the file.
        ReadFd {
            /// The descriptor.
            fd: Descriptor,
            /// At most this many bytes, and at most 1 MiB.
            max: u32,
        } -> Vec<u8>, Descriptor;
        /// Reads a descriptor to its end, on the output stream → `Count`.
        StreamFd {
            /// The descriptor.
            fd: Descriptor,
            /// Whether to send a [`StreamNotice`](super::StreamNotice) once it is known that it can be read.
            notices: bool,
        }, Descriptor;
        /// Writes what comes on the input stream → `Count`.
        WriteFd {
            /// The descriptor.
            fd: Descriptor,
        }, Descriptor;
        /// `lseek(2)`; answered with the new offset.
        SeekFd {
            /// The descriptor.
            fd: Descriptor,
            /// The offset.
            offset: i64,
            /// What the offset is relative to.
            whence: Whence,
        } -> u64, Descriptor;
        /// Closes a descriptor. One whose process has ended is closed already.
        CloseFd {
            /// The descriptor.
            fd: Descriptor,
        } -> (), RawProcess;
        /// Fails if the raw process that had the descriptor has ended.
        CheckFd {
            /// The descriptor.
            fd: Descriptor,
        } -> (), Executor;
        /// Follows an open file from its offset, as [`Op::TailFile`] does.
        TailFd {
            /// The descriptor.
            fd: Descriptor,
        }, Descriptor;

        /// Makes a raw syscall.
        Syscall(Syscall) -> SyscallResult, RawProcess;
        /// Reads the raw process's memory; `EFAULT` where nothing is mapped.
        ReadMemory {
            /// The address.
            address: u64,
            /// Bytes, at most 64 MiB.
            len: u64,
        } -> Vec<u8>, Executor;
        /// Writes the raw process's memory; `EFAULT` where nothing is mapped.
        WriteMemory {
            /// The address.
            address: u64,
            /// The bytes to write.
            data: ByteBuf,
        } -> (), Executor;

        /// Reads CLOCK_REALTIME, nanoseconds since 1970.
        ClockGet -> i64, Executor;
        /// Sets CLOCK_REALTIME; answered with the time that was set.
        ClockSet {
            /// Nanoseconds since 1970.
            ns: i64,
        } -> i64, Executor;
        /// Moves CLOCK_REALTIME by an amount, with nothing between reading and setting it; answered
        /// with the time that was set.
        ClockAdvance {
            /// Nanoseconds, either way.
            ns: i64,
        } -> i64, Executor;
        /// Sleeps on the guest's CLOCK_MONOTONIC.
        ClockSleep {
            /// Nanoseconds.
            ns: u64,
        } -> (), Executor;
    }
}

impl Op {
    /// The descriptor that an operation process uses; of [`OpClass::Descriptor`] alone.
    pub fn descriptor(&self) -> Option<Descriptor> {
        match self {
            Self::ReadFd { fd, .. }
            | Self::StreamFd { fd, .. }
            | Self::WriteFd { fd }
            | Self::SeekFd { fd, .. }
            | Self::TailFd { fd } => Some(*fd),
            _ => None,
        }
    }

    /// Whether a path is resolved: the operation depends on the raw process's root.
    pub fn resolves_path(&self) -> bool {
        self.class() == OpClass::Path || matches!(self, Self::Open { .. })
    }

    /// Whether its result is sent on the call's output stream.
    pub fn sends_output(&self) -> bool {
        matches!(
            self,
            Self::ReadFile { inline: false, .. }
                | Self::StreamFd { .. }
                | Self::TailFile { .. }
                | Self::TailFd { .. }
                | Self::PackTree { .. }
        )
    }

    /// Whether the call's input stream is used.
    pub fn takes_input(&self) -> bool {
        match self {
            Self::WriteFile { content, .. } => content.is_none(),
            Self::WriteFd { .. } | Self::Connect { .. } | Self::UnpackTree { .. } => true,
            Self::Exec(exec) => exec.stdin == super::Stdin::Channel,
            _ => false,
        }
    }

    /// Whether it may be in a batch: it uses no streams, starts nothing that outlives it, and needs a
    /// process in the guest.
    pub fn fits_batch(&self) -> bool {
        let alone = match self {
            Self::Exec(exec) => exec.collect.is_none() || exec.background,
            Self::Syscall(call) => call.background,
            Self::SpawnWorker(_) => true,
            op => op.class() == OpClass::Executor,
        };
        !alone && !self.sends_output() && !self.takes_input()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Stdin;

    const FD: Descriptor = Descriptor {
        number: 3,
        generation: 1,
    };

    #[test]
    fn a_batch_has_no_streams_and_starts_nothing() {
        let path = b"/p".to_vec();
        let collected = Exec {
            collect: Some(10),
            ..Exec::shell("true")
        };
        let read = |inline| Op::ReadFile {
            path: path.clone(),
            inline,
        };
        let write = |content| Op::WriteFile {
            path: path.clone(),
            perm: None,
            append: false,
            content,
        };
        let stat = Op::from(Stat { path: path.clone() });
        let fits = [
            Op::Exec(collected.clone()),
            read(true),
            write(Some(ByteBuf::new())),
            stat,
            Op::CloseFd { fd: FD },
            Op::SeekFd {
                fd: FD,
                offset: 0,
                whence: Whence::Set,
            },
        ];
        assert!(fits.iter().all(Op::fits_batch));
        let streams = Exec {
            stdin: Stdin::Channel,
            ..collected.clone()
        };
        let background = Exec {
            background: true,
            ..collected
        };
        let refused = [
            Op::Exec(Exec::shell("true")),
            Op::Exec(streams),
            Op::Exec(background),
            read(false),
            write(None),
            Op::StreamFd {
                fd: FD,
                notices: false,
            },
            Op::WriteFd { fd: FD },
            Op::TailFd { fd: FD },
            Op::SpawnWorker(WorkerSpec::default()),
            Op::Batch { ops: Vec::new() },
            Op::Join,
            Op::ClockGet,
        ];
        assert!(!refused.iter().any(Op::fits_batch));
    }

    #[test]
    fn what_opens_by_path_depends_on_the_root() {
        let open = Op::from(Open {
            path: b"/p".to_vec(),
            flags: 0,
            perm: 0,
        });
        assert_eq!(open.class(), OpClass::RawProcess);
        assert!(open.resolves_path());
        assert!(!Op::CloseFd { fd: FD }.resolves_path());
    }
}
