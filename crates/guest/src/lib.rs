//! The host's end of the agent channel: calls, streams, cancel.
//!
//! ```text
//!            Channel ── open, request, ping, resync
//!               │
//!   Call ── Input, Output, events, reply          LaneHandle, Command: the same, typed
//!    │                  ▲
//!    ▼                  │
//!  outbox ── writer   reader ── what the agent sends is checked here
//!              │        ▲
//!              ▼        │
//!           the agent's port (a socket of QEMU's)
//! ```
//!
//! Life cycle: [`Channel::establish`] listens on the transports that a machine has, takes the first
//! on which an agent announces itself, and agrees on a session with it. Calls then run side by side;
//! each ends with exactly one reply, or with the session. After a reset the same stream carries a new
//! session, see [`Channel::resync`]. A guest that is copied takes its session along: the copy's channel
//! is [resumed](Channel::resume) from a [`Cut`]. A channel ends with its stream, with the last handle,
//! or by [`Channel::shut_down`].
//!
//! The agent is not trusted: what it sends is bounded before memory is given to it, and what breaks
//! the protocol ends this channel only, with a reason that every call then gets.
//!
//! This crate starts no process, knows no VM, and sets no deadlines: whoever calls bounds the wait,
//! and dropping a future cancels in the guest what it waited for.

mod allowance;
mod asks;
mod blocking;
mod call;
mod capture;
mod cell;
mod channel;
mod command;
mod cut;
mod error;
mod establish;
mod files;
mod handshake;
mod incoming;
mod kind;
mod lane;
mod outbox;
mod outgoing;
mod quiet;
mod reader;
mod session;
mod shape;
mod shared;
mod stream;
mod writer;

pub use asks::{AnswerAsk, Answering, NoModules};
pub use blocking::BlockingCall;
pub use call::{Call, Input, Output};
pub use capture::{Capture, CaptureReader, Captured, Piece};
pub use channel::Channel;
pub use command::{Command, DEFAULT_MAX_OUTPUT, InFlight};
pub use cut::{CommandMark, Cut};
pub use error::{CallError, ChannelError, Violation};
pub use files::MAX_FILE_IN_MEMORY;
pub use handshake::After;
pub use lane::LaneHandle;
pub use quiet::Quiet;
pub use session::Announcement;
pub use stream::GuestStream;
