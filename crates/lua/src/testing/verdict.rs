//! What a test has come to.

use super::test_run::{Attachment, Step};
use crate::engine::failure::Failure;
use provium_events::{ConsoleExcerpt, TestStatus};
use std::time::Duration;

/// How a test ended against what its meta expects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expectation {
    /// It failed as expected; counts as passed.
    Fail(String),
    /// It passed although it was expected to fail; counts as failed.
    Pass(String),
}

/// How a test ended.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    pub(crate) status: TestStatus,
    /// Set where the meta has `expect_fail` and it mattered.
    pub(crate) expected: Option<Expectation>,
    /// Why it failed or was skipped.
    pub(crate) message: String,
    /// The failure behind the message.
    pub(crate) failure: Option<Failure>,
    /// The deadline passed.
    pub(crate) timed_out: bool,
    /// The user ended the run.
    pub(crate) cancelled: bool,
    pub(crate) log: Vec<String>,
    /// What the harness adds to a failure: see [`provium_events::Details`].
    pub(crate) notes: Vec<String>,
    pub(crate) steps: Vec<Step>,
    pub(crate) attachments: Vec<Attachment>,
    /// The ends of the VMs' consoles.
    pub(crate) consoles: Vec<ConsoleExcerpt>,
    /// Files that have whole what the report cuts.
    pub(crate) files: Vec<String>,
    /// How often it was run.
    pub(crate) attempts: u32,
    pub(crate) duration: Duration,
}

impl Verdict {
    /// A test that was not run.
    pub(crate) fn skipped(reason: impl Into<String>) -> Self {
        Self {
            status: TestStatus::Skipped,
            expected: None,
            message: reason.into(),
            failure: None,
            timed_out: false,
            cancelled: false,
            log: Vec::new(),
            notes: Vec::new(),
            steps: Vec::new(),
            attachments: Vec::new(),
            consoles: Vec::new(),
            files: Vec::new(),
            attempts: 0,
            duration: Duration::ZERO,
        }
    }
}
