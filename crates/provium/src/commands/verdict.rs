//! How it went, as the exit code says it.

use std::process::ExitCode;

/// How it went, as the exit code says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Every file passed or was skipped; 0.
    Passed,
    /// At least one file did not; 1.
    Failed,
    /// The harness itself could not work; 2.
    Unable,
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        Self::from(match verdict {
            Verdict::Passed => 0,
            Verdict::Failed => 1,
            Verdict::Unable => 2,
        })
    }
}
