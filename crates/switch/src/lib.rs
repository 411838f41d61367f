//! An Ethernet switch inside a process, with impairments between each pair of its ports.
//!
//! ```text
//!  frame from port A
//!      │  link up? length? not isolated?               port.rs, frame.rs
//!      ▼
//!  learn the source, look up the destination           mac_table.rs
//!      │  one port, or all others
//!      ▼  for each destination B: the path A → B       path/
//!  partition → loss → rate → delay and jitter → reorder → duplicate → corrupt
//!      │                                  │
//!      ▼ due now                          ▼ due later
//!  delivery to B                   in flight, ordered by time     in_flight.rs
//! ```
//!
//! [`Fabric`] is a pure state machine: it takes frames, times and a seed, and gives deliveries. It has no
//! clock, no sockets and no tasks, so the same inputs always give the same outputs, frame for frame.
//! [`Fabric::freeze`] saves it with the frames in flight; [`Fabric::thaw`] continues from there.
//!
//! What a test asks for is kept in [`Rules`]: partitions, isolated ports, impairments by scope. Each path
//! combines the impairments whose scope it is in. A partition, an isolated port or a link that is down
//! also drops what is in flight; other changes apply to the frames that follow.
//!
//! [`shell`] runs a fabric in a thread, between sockets of QEMU. Nothing else here does I/O.
//!
//! [`router`] joins several switches, has the [`services`] of a bridge, and an [`uplink`] to the host. Not here:
//! what addresses guests have.

mod address;
pub mod capture;
mod counters;
mod fabric;
mod frame;
mod frozen;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod in_flight;
mod ip;
mod mac_table;
pub mod netdev;
mod path;
mod port;
pub mod router;
mod rules;
pub mod services;
pub mod shell;
mod status;
mod time;
pub mod uplink;

pub use address::MacAddress;
pub use counters::{DropReason, PathCounters, PortCounters};
pub use fabric::{Delivery, DroppedFrame, Fabric, Output, UnknownPort};
pub use frame::{Header, MAX_FRAME, MAX_MTU, MIN_FRAME, MIN_MTU};
pub use frozen::{FrozenFabric, ThawError};
pub use path::{IN_FLIGHT_LIMIT, REORDER_GAP};
pub use port::{PortId, PortSettings};
pub use rules::{Impairment, Probability, Rules, Scope};
pub use status::{PathStatus, PortStatus, Status};
pub use time::Time;
