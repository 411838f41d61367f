//! The wire between host and guest agent.
//!
//! One byte stream (a virtio-serial port, or a UART where the guest has no virtio console) carries
//! [frames](frame). A frame belongs to a [call](CallId) on a [lane](Lane): a lane is a process in
//! the guest, a call is one operation of it. Any number of calls run at once; a call may carry
//! byte [streams](StreamId) in both directions, each with its own credit, so that no call
//! can starve another.
//!
//! ```text
//! host                                           agent
//!  │                        SYNC, Hello (announce) │  once, when the port opens
//!  │ SYNC, Hello{session} ───────────────────────▶ │  starts a session: older calls are forgotten
//!  │ ◀──────────────────────── SYNC, Hello{session} │
//!  │ Request{lane, call} ────────────────────────▶ │
//!  │ ◀───────────────────── Event, Data, End (any) │  while it runs
//!  │ Data, End, Credit, Cancel ──────────────────▶ │
//!  │ ◀─────────────────────────────────────  Reply │  always exactly one, always the last
//! ```
//!
//! A cancelled call is answered too (with [`ErrorKind::Cancelled`](message::ErrorKind)), so a call
//! id is free again only when its reply has come.
//!
//! This crate holds the formats and the version. It does no I/O and starts nothing.

pub mod boot;
pub mod codec;
mod decode;
pub mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod message;
mod msgpack;
pub mod op;
pub mod tree;

pub use frame::{CallId, Frame, FrameDecoder, FrameError, FrameKind, Lane, StreamId};
pub use message::{ErrorKind, Event, GuestRequest, Hello, HostHello, HostReply, Reply, WireError};
pub use op::{AgentOp, Descriptor, Op, Request};

/// Version of the agent wire and of the event stream. A change to either must raise it; the golden
/// bytes in this crate's and in `provium-events`' tests hold it to that.
pub const PROTOCOL_VERSION: u32 = 10;

/// Name of the virtio-serial port that carries the wire.
pub const AGENT_PORT: &str = "org.provium.agent.0";
