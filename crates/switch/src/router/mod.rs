//! The router of a bridge, as a state machine: frames of its interfaces go in, frames for them come out.
//!
//! ```text
//! frame ──▶ router.rs ──┬─ ARP, neighbour discovery ────────────▶ neighbors.rs
//!                       ├─ for the router itself (local.rs) ────▶ echo replies, services
//!                       └─ for others (forward.rs): route, hop limit, MTU ─┬▶ next hop known: frame
//!                                                                          └▶ unknown: ask, hold the packet
//! ```
//!
//! It has one address of each family on each interface. Packets pass between two interfaces only if they are
//! joined ([`Router::join`]), so one router can serve any number of bridges, some of which are connected. A
//! packet for an interface that is not joined with the one that it came from is answered as one for a
//! network that does not exist.
//!
//! Routes are the subnets of its interfaces. Errors are reported as RFC 792, RFC 1812 and RFC 4443 ask for: time
//! exceeded, network, host and port unreachable, fragmentation needed, packet too big. IPv4 packets that may
//! be fragmented are.
//!
//! An interface to an uplink has all other addresses behind it, and nat.rs translates what leaves through it.
//!
//! It does not filter, except for packets whose source is not in the subnet that they come from, or announce
//! itself: guests are given their routes.

mod forward;
mod interface;
mod interfaces;
mod local;
mod nat;
mod neighbors;
#[expect(clippy::module_inception, reason = "the file of the type `Router`")]
mod router;

pub use interface::{ForwardedFrame, InterfaceId, InterfaceSettings, UplinkHops};
pub use neighbors::{HELD_BYTES, HELD_PACKETS, HELD_STATIONS, NEIGHBOR_AGE, RESOLUTION_TIME};
pub use router::Router;
