//! Requests of the host about the network.

use provium_protocol::op::{ReadNicCounters, SetNetwork};

/// A request about the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NetworkRequest {
    Set(SetNetwork),
    Count(ReadNicCounters),
}
