//! What goes wrong with a child process, always with the program's name.

use std::io;
use std::time::Duration;

/// Why a child process could not be started, watched or waited for.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// No such program: the user has to install it or to say where it is.
    #[error("`{program}` is not installed or not on PATH")]
    NotFound {
        /// As it was asked for.
        program: String,
    },
    /// The program is there, but the kernel refused to start it.
    #[error("cannot start `{program}`")]
    Start {
        /// As it was asked for.
        program: String,
        /// The kernel's word.
        source: io::Error,
    },
    /// The program or an argument holds a NUL byte, which no Unix program can be given.
    #[error("an argument of `{program}` holds a NUL byte")]
    NulByte {
        /// As it was asked for.
        program: String,
    },
    /// The thread that starts processes could not be made.
    #[error("cannot start the thread that starts `{program}`")]
    Spawner {
        /// As it was asked for.
        program: String,
        /// Why there is no thread.
        source: io::Error,
    },
    /// The child runs, but its end or its output could not be followed.
    #[error("cannot follow `{program}`")]
    Follow {
        /// As it was asked for.
        program: String,
        /// The kernel's word.
        source: io::Error,
    },
    /// The child outlived the deadline that its caller set, and was killed.
    #[error("`{program}` did not end within {deadline:?}")]
    Deadline {
        /// As it was asked for.
        program: String,
        /// What the caller allowed.
        deadline: Duration,
    },
}
