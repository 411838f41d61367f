//! The host's end of the agent channel: calls, streams, cancel.
//!
//! ```text
//!   Command, GuestStream, files          commands, streams and files, above one lane
//!               │
//!          LaneHandle ── call            requests to the VM or a worker
//!               │
//!            Channel ── open, call, ping, resync, quiesce
//!               │
//!             Call ── Input, Output, events, reply
//!               │
//!            Shared ── ChannelState: Session, CallTable (of CallStates), Outbox
//!             ▼    ▲
//!         writer    reader               the reader checks everything that the agent sends
//!             ▼    ▲
//!        the agent's port (a socket of QEMU's)
//! ```
//!
//! Life cycle: [`Channel::establish`] listens on the byte streams that a machine has, takes the first
//! on which an agent announces itself, and agrees on a session with it. Calls then run side by side.
//! Each ends with exactly one reply, or with the session. After a reset the same stream carries a new
//! session, see [`Channel::resync`]. The session of a saved guest is saved with it: the channel of a
//! restored guest is [resumed](Channel::resume) from a [`ChannelCheckpoint`]. A channel ends with its
//! stream, with the last handle, or by [`Channel::shut_down`].
//!
//! The agent is not trusted: what it sends is bounded before memory is allocated for it, and a
//! violation of the protocol ends only this channel, with a reason that every call gets.
//!
//! This crate starts no process, knows no VM, and sets no deadlines. The caller bounds the wait, and
//! dropping a future cancels the call in the guest.

mod blocking;
mod call;
mod call_state;
mod calls;
mod capture;
mod channel;
mod channel_state;
mod checkpoint;
mod command;
mod connection;
mod error;
mod establish;
mod files;
mod handshake;
mod incoming;
mod kind;
mod lane;
mod module_provider;
mod outbox;
mod outgoing;
mod quiesced;
mod reader;
mod reply_limits;
mod session;
mod shared;
mod stream;
mod tree;
mod writer;

pub use blocking::BlockingCall;
pub use call::{Call, Input, Output};
pub use capture::{Capture, CaptureReader, CapturedOutput, Piece};
pub use channel::Channel;
pub use checkpoint::{ChannelCheckpoint, CommandCheckpoint};
pub use command::{Command, DEFAULT_MAX_OUTPUT, RunningCommand};
pub use connection::{Connection, ConnectionReader};
pub use error::{CallError, ChannelError, Violation};
pub use files::MAX_FILE_IN_MEMORY;
pub use handshake::ResyncCause;
pub use lane::LaneHandle;
pub use module_provider::{ModuleProvider, ModulesFuture, NoModules};
pub use quiesced::QuiescedChannel;
pub use session::Announcement;
pub use stream::{ChangeList, FileChanges, GuestStream};
pub use tree::TreeUpload;
