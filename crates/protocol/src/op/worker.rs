//! How a worker starts.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// How a worker starts. It is a copy of the VM's raw process, with its descriptors, identity, working
/// directory and umask, to which these changes are made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerSpec {
    /// User to run as, as in [`Exec::user`](super::Exec::user).
    pub user: Option<String>,
    /// Working directory.
    pub cwd: Option<ByteBuf>,
    /// Added to the environment of its commands.
    pub env: Vec<(ByteBuf, ByteBuf)>,
    /// Namespaces to unshare: `mnt`, `net`, `uts`, `ipc`, `pid`, `user`, `cgroup`, `time`.
    pub namespaces: Vec<String>,
}
