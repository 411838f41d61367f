//! Services that a bridge has at the address of its router: DHCP and DNS, as state machines.
//!
//! A request goes in, and the answer comes out; [`Router`](crate::router::Router) carries both. What they
//! answer with is set by the lab, so their memory does not depend on what guests send. They answer over UDP.

mod dhcp;
mod dns;
mod dns_table;
mod set;

pub use dhcp::{DhcpRoute, DhcpServer, LEASE_SECONDS, Lease};
pub use dns::DnsServer;
pub use dns_table::DnsTable;
pub use set::Services;

pub(crate) use dhcp::SERVER_PORT as DHCP_PORT;
pub(crate) use dns::{DnsAnswer, PORT as DNS_PORT};
