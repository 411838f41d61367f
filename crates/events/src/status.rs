//! Outcomes of tests, files and builds, reasons of waits, and kinds of boots.

use serde::{Deserialize, Serialize};

/// What came of the build of a fixture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuildStatus {
    /// The fixture is in the cache.
    Built,
    /// The script failed, or its result could not be kept.
    Failed,
    /// The build was cancelled: the file that needed it has ended.
    Interrupted,
}

/// How a file ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileStatus {
    /// Every test passed or was skipped.
    Passed,
    /// A test failed, or the file's own code did.
    Failed,
    /// The file's time was up.
    TimedOut,
    /// The harness crashed, or had no thread for it.
    Crashed,
    /// The user ended the run before all tests of the file had run. None of them failed.
    Interrupted,
    /// The file did not start.
    NotRun,
}

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TestStatus {
    /// It passed, or failed as expected.
    Passed,
    /// It failed.
    Failed,
    /// It was excluded, or skipped itself.
    Skipped,
    /// The user ended the run while the test ran.
    Interrupted,
    /// It did not start: its file ended before.
    NotRun,
}

/// Why a file waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockReason {
    /// The pool has too little left.
    PoolFull,
    /// The host is short of memory or processor time.
    PsiPressure,
}

/// What a VM booted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootKind {
    /// Kernel and initrd.
    Cold,
    /// A boot template.
    Template,
    /// A snapshot that a test or a fixture made.
    Snapshot,
}

impl BootKind {
    /// `cold`, `template` or `snapshot`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Template => "template",
            Self::Snapshot => "snapshot",
        }
    }
}
