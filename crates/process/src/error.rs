//! Errors of child processes. Each has the program's name.

use std::io;
use std::time::Duration;

/// Why a child process could not be started, watched or waited for.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program does not exist: the user has to install it or to name its path.
    #[error("`{program}` is not installed or not on PATH")]
    NotFound {
        /// As the caller named it.
        program: String,
    },
    /// The kernel refused to start the program.
    #[error("cannot start `{program}`")]
    Start {
        /// As the caller named it.
        program: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// The program's name or an argument contains a NUL byte.
    #[error("an argument of `{program}` contains a NUL byte")]
    NulByte {
        /// As the caller named it.
        program: String,
    },
    /// The thread that forks could not be started.
    #[error("cannot start the thread that forks `{program}`")]
    Spawner {
        /// As the caller named it.
        program: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// The child runs, but this process cannot wait for it or read its output.
    #[error("cannot wait for `{program}`")]
    Follow {
        /// As the caller named it.
        program: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// The child did not exit before the caller's deadline, and was killed.
    #[error("`{program}` did not exit within {deadline:?}")]
    Deadline {
        /// As the caller named it.
        program: String,
        /// The caller's limit.
        deadline: Duration,
    },
}
