//! The `modprobe` of a guest whose modules the host keeps.
//!
//! ```text
//! modprobe (this)                router                          host
//!  │ connect, request ────────▶   │ Ask::Module ───────────────▶  │
//!  │ ◀──────────────── answer     │ ◀────────── Answer::Modules   │
//!  │ init_module, in order
//! ```
//! One request and one answer a connection.

use provium_protocol::message::ModuleFile;
use std::ffi::OsString;

/// Where the router listens.
pub(crate) const SOCKET_PATH: &str = "/.provium/modprobe.socket";

/// Runs the command with its arguments (without `argv[0]`); gives its exit code.
pub(crate) fn main(_args: Vec<OsString>) -> i32 {
    1
}

/// What a modprobe process asks of the router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// A module's name or alias.
    pub(crate) name: String,
}

/// Bytes that no modprobe process of ours would send: close the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotARequest;

/// The request in what has come in so far on a connection; `None` when there must come more.
pub(crate) fn read_request(_bytes: &[u8]) -> Result<Option<Request>, NotARequest> {
    Ok(None)
}

/// The bytes to answer with; the router closes the connection after them.
pub(crate) fn write_answer(_modules: &[ModuleFile]) -> Vec<u8> {
    Vec::new()
}

/// The bytes to answer with when the host could not be asked.
pub(crate) fn write_refusal(_why: &str) -> Vec<u8> {
    Vec::new()
}
