//! QEMU's machine protocol (QMP): codec and client.
//!
//! QMP is JSON, one object a line. The server greets; the client answers with `qmp_capabilities`;
//! then commands go one way, replies and events the other. The reference is QEMU's
//! `docs/interop/qmp-spec.rst`.
//!
//! [`codec`] decodes bytes into [`ServerMessage`] messages; it does no I/O. [`Client`] runs it over QEMU's
//! socket: any number of commands may be in flight, each gets its reply by its id, and the reply of a
//! command whose caller has stopped waiting is dropped. When the socket ends, or QEMU sends something that
//! is not QMP, all waiting commands fail with the reason.
//!
//! The crate does not know any command beside `qmp_capabilities`, sets no deadlines and starts no process.

mod client;
pub mod codec;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod send;

pub use client::{Client, Events};
pub use codec::{CommandError, Event, Greeting, ServerMessage, Version};
pub use error::{CloseReason, QmpError};
