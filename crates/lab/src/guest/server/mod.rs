//! Servers in the guest: waiting until they run, and talking to them without a network.
//!
//! | file | purpose |
//! |---|---|
//! | `address` | addresses as a test's author writes them |
//! | `wait_for` | waiting for a file, a server, a process, a command |
//! | `connection` | a connection that a test holds |
//! | `forward` | a listener on the host that clients of the host connect to |

mod address;
mod connection;
mod forward;
mod wait_for;

pub use connection::Connection;
pub use forward::forward;
pub use wait_for::{WaitCondition, WaitLimits, WaitMatch, wait_for};
