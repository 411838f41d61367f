//! The exit code of a command.

use crate::failure::Failure;
use std::process::ExitCode;

/// The exit code of a command, by its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Every file passed or was skipped.
    Passed,
    /// At least one file did not.
    Failed,
    /// The harness itself could not work.
    Unable,
    /// No test was run.
    NothingRun,
    /// The user ended it.
    Interrupted,
}

impl Exit {
    /// The exit of a command that ended with this error.
    pub(crate) fn of(failure: &Failure) -> Self {
        match failure {
            Failure::Interrupted => Self::Interrupted,
            _ => Self::Unable,
        }
    }

    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Failed => 1,
            Self::Unable => 2,
            Self::NothingRun => 4,
            // As shells report a process that SIGINT has ended.
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
