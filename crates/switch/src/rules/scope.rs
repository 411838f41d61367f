//! Which paths an impairment applies to.

use crate::PortId;
use serde::{Deserialize, Serialize};

/// A set of paths: from one port or any, to one port or any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Scope {
    /// The port that frames come from; `None`: any.
    pub from: Option<PortId>,
    /// The port that frames go to; `None`: any.
    pub to: Option<PortId>,
}

impl Scope {
    /// All paths.
    pub const ALL: Self = Self {
        from: None,
        to: None,
    };

    /// The paths that begin at a port.
    #[must_use]
    pub const fn from(from: PortId) -> Self {
        Self {
            from: Some(from),
            to: None,
        }
    }

    /// The paths that end at a port.
    #[must_use]
    pub const fn to(to: PortId) -> Self {
        Self {
            from: None,
            to: Some(to),
        }
    }

    /// One path, in one direction.
    #[must_use]
    pub const fn path(from: PortId, to: PortId) -> Self {
        Self {
            from: Some(from),
            to: Some(to),
        }
    }

    pub(crate) fn contains(self, from: PortId, to: PortId) -> bool {
        self.from.is_none_or(|port| port == from) && self.to.is_none_or(|port| port == to)
    }

    pub(crate) fn names(self, port: PortId) -> bool {
        self.from == Some(port) || self.to == Some(port)
    }
}
