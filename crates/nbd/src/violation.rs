//! Why a connection is closed.

use crate::wire::{MAX_OPTION, MAX_REQUEST};

/// A violation of the protocol that cannot be answered with an error, because what follows has no known
/// meaning or a refusal has no message. The server closes the connection (section *Terminating the transmission phase*:
/// a hard disconnect).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Client flags beyond those that the server has offered.
    #[error("the client sets the unknown flags {0:#x}")]
    ClientFlags(u32),
    /// An option that does not begin as one.
    #[error("an option begins with {0:#018x}, not with IHAVEOPT")]
    OptionMagic(u64),
    /// Only `EXPORT_NAME` has a meaning without fixed newstyle.
    #[error("the client sends option {0} and has not agreed to fixed newstyle")]
    NotFixedNewstyle(u32),
    /// `EXPORT_NAME` with an unknown name or one of more than [`MAX_OPTION`] bytes.
    #[error(
        "the client requests an unknown export, or one with a name of more than {MAX_OPTION} bytes"
    )]
    UnknownExport,
    /// A request that does not begin as one.
    #[error("a request begins with {0:#010x}, not with NBD_REQUEST_MAGIC")]
    RequestMagic(u32),
    /// A write with more data than [`MAX_REQUEST`].
    #[error("a write has {0} bytes of data; at most {MAX_REQUEST} are allowed")]
    TooMuchData(u32),
}
