//! QEMU's machine protocol (QMP): codec and client.
//!
//! QMP is JSON, one object a line. The server greets; the client answers with `qmp_capabilities`;
//! then commands go one way, replies and events the other. The reference is QEMU's
//! `docs/interop/qmp-spec.rst`.
//!
//! [`codec`] takes bytes and gives [`Incoming`] messages; it does no I/O. [`Client`] runs it over a
//! byte stream: any number of commands may be under way at once, each finds its reply by its id, and
//! a command whose caller has gone is completed and forgotten. When the stream ends, or QEMU says
//! something that is no QMP, every waiting command fails with the reason.
//!
//! What it does not do: it knows no command of QEMU's, sets no deadlines and starts no process.

mod client;
pub mod codec;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;

pub use client::{Client, Events};
pub use codec::{CommandError, Event, Greeting, Incoming, Version};
pub use error::{Closed, QmpError};
