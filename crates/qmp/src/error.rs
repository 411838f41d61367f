//! Errors of commands and connections.

use std::sync::Arc;

use crate::codec::{CodecError, CommandError};

/// Why a command has no result.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QmpError {
    /// QEMU refused it.
    #[error("QEMU refused `{command}`: {error}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's answer.
        error: CommandError,
    },
    /// The connection is over.
    #[error("the connection to QEMU is closed: {0}")]
    Closed(CloseReason),
}

/// Why a connection is over.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CloseReason {
    /// QEMU closed its end: it exits or has died.
    #[error("QEMU closed its end")]
    Ended,
    /// This side closed it.
    #[error("the connection was abandoned")]
    GivenUp,
    /// Reading or writing failed.
    #[error("{0}")]
    Io(Arc<std::io::Error>),
    /// QEMU sent something that is not QMP.
    #[error("{0}")]
    Garbage(Arc<CodecError>),
}
