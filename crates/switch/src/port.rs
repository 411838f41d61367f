//! A port: where a NIC, a script or a service is connected.

use crate::PortCounters;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Identifies a port of one fabric. It is never used again after the port was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortId(pub(crate) u32);

impl PortId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {}", self.0)
    }
}

/// What a port is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortSettings {
    /// Unique within the fabric. What is drawn for its paths depends on the seed and on the names at
    /// both ends, and not on the order in which ports are added.
    pub name: String,
    /// Longest payload that is forwarded from and to this port, bytes; clamped to
    /// [`MIN_MTU`](crate::MIN_MTU)`..=`[`MAX_MTU`](crate::MAX_MTU).
    pub mtu: usize,
}

impl PortSettings {
    /// A port with Ethernet's usual MTU of 1,500 bytes.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            mtu: 1500,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) mtu: usize,
    pub(crate) link_is_up: bool,
    pub(crate) counters: PortCounters,
}
