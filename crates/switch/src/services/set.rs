//! The services of one interface.

use super::{DhcpServer, DnsServer};

/// The services of one interface of a router. Those that are `None` do not answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Services {
    /// Hands out addresses.
    pub dhcp: Option<DhcpServer>,
    /// Answers for names.
    pub dns: Option<DnsServer>,
}
