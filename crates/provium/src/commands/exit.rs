//! How it went, as the exit code says it.

use std::process::ExitCode;

/// How it went, as the exit code says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Every file passed or was skipped; 0.
    Passed,
    /// At least one file did not; 1.
    Failed,
    /// The harness itself could not work; 2.
    Unable,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Passed => 0,
            Exit::Failed => 1,
            Exit::Unable => 2,
        })
    }
}
