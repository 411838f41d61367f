//! A router between switches, as a state machine: frames of its interfaces go in, frames for them come out.
//!
//! ```text
//! frame ──▶ router.rs ──┬─ ARP, neighbour discovery ──▶ neighbors.rs
//!                       ├─ for the router itself: echo replies
//!                       └─ for others: hop limit, route, MTU ──▶ next hop known: frame
//!                          (ipv4.rs, ipv6.rs)               └─▶ unknown: ask, hold the packet
//! ```
//!
//! It has one address of each family on each interface and routes between the subnets of its interfaces;
//! there are no other routes. Errors are reported as RFC 792, RFC 1812 and RFC 4443 ask for: time exceeded,
//! network and host unreachable, fragmentation needed, packet too big. IPv4 packets that may be fragmented
//! are.
//!
//! It does not filter, translate addresses, or announce itself: guests are given their routes.

mod interface;
mod ipv4;
mod ipv6;
mod neighbors;
#[expect(clippy::module_inception, reason = "the file of the type `Router`")]
mod router;

pub use interface::{InterfaceId, InterfaceSettings};
pub use neighbors::{HELD_PACKETS, NEIGHBOR_AGE, RESOLUTION_TIME};
pub use router::{Forwarded, Router};
