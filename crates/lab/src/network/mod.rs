//! Bridges: Ethernet segments of the harness.
//!
//! ```text
//! Bridge ── members: name, MAC address, host number, port ──▶ Switch (crate `switch`): moves the frames
//!    ├─ rules       partitions, isolation, impairments
//!    ├─ Port        the test script as a member
//!    └─ Capture     frames as packets, file and lines
//! ```
//!
//! A bridge knows a VM as an [`AttachedVm`]: the VMs are above this folder. It decides on addresses, which are set in
//! the guest by its agent, and never by what passes the bridge.
//!
//! | file | purpose |
//! |---|---|
//! | `subnet` | addresses: IPv4 and IPv6 networks, hosts, MAC addresses |
//! | `member` | what is attached to a bridge |
//! | `core`, `membership` | the state of a bridge; members come and go |
//! | `bridge` | the bridge: members come and go |
//! | `rules` | what a test does to the frames |
//! | `faults` | rules for a time |
//! | `status` | counters, and the report of a failed test |
//! | `routing` | connections to other bridges and to the host |
//! | `gateway` | its router: routes to other bridges, DHCP and DNS |
//! | `bridge_context` | what a bridge gives its guests: names and routes |
//! | `uplink` | the network of the host |
//! | `script_port`, `captured` | the state of ports and captures |
//! | `port` | a port of the test script |
//! | `capture` | captured frames |
//! | `saved` | a bridge as a snapshot keeps it |

mod bridge;
mod bridge_context;
mod capture;
mod captured;
mod core;
mod faults;
mod gateway;
mod member;
mod membership;
mod port;
mod routing;
mod rules;
mod saved;
mod script_port;
mod status;
mod subnet;
#[cfg(test)]
mod tests;
mod uplink;

pub(crate) use bridge_context::{BridgeContext, coming};
pub(crate) use member::{AttachedVm, MemberEntry};
pub(crate) use saved::{FrozenBridges, RestoringBridge, SavedBridge, resume_bridges};
pub(crate) use subnet::PREFIX_V6;
pub(crate) use uplink::Uplink;

pub use bridge::Bridge;
pub use capture::{Capture, Packet};
pub use core::BridgeOptions;
pub use faults::{ActiveFaults, Faults};
pub use member::NicAddresses;
pub use port::{Port, ReceivedFrame};
pub use rules::{BridgeRules, MemberPaths, Partition};
pub use status::{BridgeCounters, PathReport, PortDrops};
pub use subnet::{HostAddresses, Ipv4Network, Subnet, SubnetError};
