//! Servers in the guest: how they are addressed, and what can be waited for.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// Where a server in the guest listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Address {
    /// A TCP port of the loopback interface: of 127.0.0.1, or if nothing listens there, of ::1.
    Port(u16),
    /// A stream socket of the Unix domain, by its path. A name that begins with `@` is in the abstract
    /// namespace.
    Unix(ByteBuf),
}

/// What [`Op::WaitFor`](crate::Op) waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// A file exists; links are followed.
    File(ByteBuf),
    /// A server accepts connections.
    Server(Address),
    /// A process of this name runs: its command name, or the last part of its first argument.
    Process(ByteBuf),
}
