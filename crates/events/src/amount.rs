//! An amount of the host's memory and processors.

use serde::{Deserialize, Serialize};

/// An amount of the host's memory and processors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Bytes.
    pub memory_bytes: u64,
    /// vCPUs.
    pub cpus: u32,
}
