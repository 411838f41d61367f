//! Labs, scopes, VMs, workers, processes, files and streams as one resource graph.
//!
//! A [`Scope`] owns what is made in it and closes it in order when it ends. A [`Lab`] gives names.
//! A [`Vm`] is described by a [`Profile`] and [`VmOptions`], boots into a machine, and is worked on
//! through [`GuestOps`], which a [`Worker`] offers too.
//!
//! All handles are cheap to clone and may be used from any thread. Every async method may be
//! dropped before it ends: what it asked of the guest is then cancelled there.
//!
//! This crate knows no Lua and no test; it never prints.

mod apart;
mod crash;
mod disk;
mod environment;
pub mod errno;
mod error;
mod fixture;
mod graph;
mod guest;
mod host_shell;
mod host_time;
mod inputs;
mod kept;
pub mod kernel_log;
mod lock;
pub mod nearest;
mod network;
mod profile;
mod resource;
mod save;
mod snapshot;
mod test_file;
mod vm;
mod vm_options;

pub use crash::{CrashCount, CrashExplorer, CrashImage, CrashVm};
pub use disk::{DiskId, DiskOptions, DiskSource};
pub use environment::{Environment, EnvironmentError, Host, UnknownProfile};
pub use error::LabError;
pub use fixture::{
    BuildOutput, BuiltFixture, Fixture, FixtureKind, Fixtures, Lookup, fixture, lab_fixture,
    vm_fixture,
};
pub use graph::baseline::Baseline;
pub use graph::clone::{LabClone, Reservation};
pub use graph::group::VmGroup;
pub use graph::lab::{Lab, Member, MemberKind, RESERVED_NAMES};
pub use graph::snapshot::LabSnapshot;
pub use guest::attached::{
    AttachedCommand, AttachedProcess, CommandInput, CommandOutput, CommandTerminal,
};
pub use guest::batch::{BatchEntry, BatchOutcome};
pub use guest::clock::Clock;
pub use guest::command::{CommandSpec, RunResult, RunStatus};
pub use guest::console::Console;
pub use guest::file::{File, OpenMode};
pub use guest::ops::{GuestOps, WriteMode};
pub use guest::process::{OutputKind, Process, ProcessStatus};
pub use guest::server::{Connection, WaitCondition, WaitLimits, WaitMatch, forward, wait_for};
pub use guest::stream::{ByteStream, Site, StreamKind};
pub use guest::syscall::{PendingSyscall, SyscallInProgress};
pub use guest::target::Target;
pub use guest::tree::{TreeSummary, pull_dir, push_dir};
pub use guest::worker::Worker;
pub use host_shell::{
    HostChild, HostExit, HostOutput, host_shell, start_host_shell, watch_host_file,
};
pub use inputs::{Change, FixtureSource, Input, InputKind, Recorder};
pub use kept::catalogue::{KeptFailure, KeptFailures};
pub use kept::keep::{FailedTest, keep_failure};
pub use kept::keeper::KeptFailureSummary;
pub use kept::manifest::{KeptState, KeptVm};
pub use kept::output::{KeptFiles, KeptOutput};
pub use network::{
    ActiveFaults, Bridge, BridgeCounters, BridgeOptions, BridgeRules, Capture, Faults,
    HostAddresses, Ipv4Network, MemberPaths, NicAddresses, Packet, Partition, PathReport, Port,
    PortDrops, ReceivedFrame, Subnet, SubnetError,
};
pub use profile::{DEFAULT_MEMORY, GuestSource, LEAST_MEMORY, Profile};
pub use resource::{CloseFailure, CloseOrder, ResourceId, Scope};
pub use snapshot::Snapshot;
pub use vm::{BootFile, ConsoleWait, Disk, Disks, GuestActivity, Nic, Power, Vm, VmState, VmStats};
pub use vm_options::{OnPanic, VmOptions};

/// The name of the file in a snapshot's folder whose content identifies the snapshot.
pub use provium_store::SEAL as SNAPSHOT_SEAL;

pub use provium_switch::capture::Summary;
/// Types of the switch that pass through unchanged: what an author may ask for, and what is counted.
pub use provium_switch::{DropReason, Impairment, MacAddress, PathCounters, Probability};

/// Types of disks that pass through unchanged: faults, power cuts, what is recorded.
pub use provium_disk::{
    CrashOptions, DiskStats, FaultId, FaultMode, FaultRule, HostFailure, HostFailures, Keep,
    LogEntry, LogKind, LogMark, PowerCut, PowerLoss, SECTOR, SectorRange, WriteLog,
};

/// Wire types that pass through unchanged: raw syscalls, batches, metadata.
pub use provium_protocol::message::{DirEntry, EntryType, FileStat, GuestStats, SyscallResult};
pub use provium_protocol::op as request;
pub use provium_protocol::op::{
    Buffer, Link, Op, Program, Stdin, Syscall, TailStart, Whence, WindowSize, WorkerSpec,
};
