//! What the host leaves for the agent in the initial RAM file system.

use serde::{Deserialize, Serialize};

/// Folder of the agent in the initial RAM file system. The host puts the agent there as
/// [`AGENT_PATH`], its [`BootPlan`] as [`PLAN_PATH`], and modules under `modules/`.
pub const AGENT_DIR: &str = "/.provium";
/// The agent's executable; named by `rdinit=`.
pub const AGENT_PATH: &str = "/.provium/agent";
/// The [`BootPlan`], as [`codec`](crate::codec) writes it.
pub const PLAN_PATH: &str = "/.provium/plan";

/// Files that are copied into a root file system on a disk before its init runs, below this folder at their
/// paths.
pub const ROOT_FILES_DIR: &str = "/.provium/root";

/// What the agent does before it answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootPlan {
    /// Paths of kernel modules (uncompressed), each after those it depends on. One that the kernel
    /// has already is passed over.
    pub modules: Vec<String>,
    /// Executables tried in turn as PID 1, once the agent's child serves. If none exists, the agent
    /// itself is the init.
    pub init: Vec<String>,
    /// Host name set when the agent itself is the init.
    pub hostname: String,
    /// Whether modules that the guest asks for (`modprobe`) are had from the host.
    pub modules_on_demand: bool,
    /// The disk that has the root file system; `None`: the initial RAM file system is the root. The drivers
    /// that it needs are among `modules`.
    pub root_disk: Option<RootDisk>,
}

/// A root file system on a disk. The agent mounts it read-write, moves its process into it, and looks for the
/// inits there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootDisk {
    /// The serial number of the device, by which it is found.
    pub serial: String,
    /// The type of the file system, as the kernel names it.
    pub filesystem: String,
}
