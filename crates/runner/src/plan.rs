//! What to run, and its results.

use crate::discover::TestFile;
use camino::Utf8PathBuf;
use provium_events::{FileError, FileStatus, Resources, Sink};
use provium_pool::CancelToken;
use provium_pool::FileWatch;
use std::time::Duration;

/// A run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The files. Which one starts first is decided by what is known of them.
    pub files: Vec<TestFile>,
    /// What a file is taken to need of which nothing is known.
    pub reservation: Resources,
    /// Time for a file; `None`: as long as it takes.
    pub file_timeout: Option<Duration>,
    /// How long a file's thread may show no sign of life once the file's time is over; see
    /// [`STUCK_AFTER`](crate::STUCK_AFTER).
    pub stuck_after: Duration,
    /// Starts no further test once one has failed.
    pub fail_fast: bool,
    /// Cancelled when the run is to end at once: running files are reported as they are and not waited
    /// for.
    pub abort: CancelToken,
    /// The seed of a random order of files; `None`: the order that history advises.
    pub shuffle: Option<u64>,
    /// Whether files run with all their tests, so that the next run can go by how long they took.
    pub whole_files: bool,
    /// Where the kernel tells how short the host is of processors and memory: `/proc/pressure`.
    pub pressure: Utf8PathBuf,
    /// What the run says of itself.
    pub info: RunInfo,
}

/// What a run says of itself.
#[derive(Debug, Clone)]
pub struct RunInfo {
    /// The harness's version.
    pub version: String,
    /// What all chance comes from.
    pub seed: u64,
    /// `kvm`, `tcg` or `none`.
    pub accel: String,
    /// The host, in words.
    pub host: String,
}

/// A file to run on the calling thread.
#[derive(Debug, Clone)]
pub struct FileTask {
    /// Which.
    pub file: TestFile,
    /// Where its events go.
    pub sink: Sink,
    /// Thrown when it is to end early.
    pub stop: CancelToken,
    /// Thrown when no further test of it is to start; those that run may end.
    pub start_no_more: CancelToken,
    /// Its time.
    pub timeout: Option<Duration>,
    /// How others see how it is getting on.
    pub watch: FileWatch,
}

/// How a file ended.
#[derive(Debug, Clone)]
pub struct FileEnd {
    /// How.
    pub status: FileStatus,
    /// What went wrong outside of any test.
    pub error: Option<FileError>,
}

/// What came of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed; a file that failed outside of any test counts as one.
    pub failed: u64,
    /// Tests that were skipped.
    pub skipped: u64,
    /// Tests that the end of the run interrupted.
    pub interrupted: u64,
    /// Tests that did not start.
    pub not_run: u64,
    /// Passed tests that needed more than one attempt.
    pub flaky: u64,
    /// Files that did not pass; not those that were interrupted or did not start.
    pub files_failed: u64,
    /// The user ended it early.
    pub stopped: bool,
}

impl Outcome {
    /// Adds a further run of the same files.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.interrupted += other.interrupted;
        self.not_run += other.not_run;
        self.flaky += other.flaky;
        self.files_failed += other.files_failed;
        self.stopped |= other.stopped;
    }
}

impl FileEnd {
    /// A file whose thread does not come back.
    pub(crate) fn given_up(message: impl Into<String>) -> Self {
        Self {
            status: FileStatus::TimedOut,
            error: Some(plain(message)),
        }
    }

    /// A file that the user has ended.
    pub(crate) fn interrupted() -> Self {
        Self {
            status: FileStatus::Interrupted,
            error: None,
        }
    }

    /// Whether it may have declared tests that did not start.
    pub(crate) fn may_leave_tests(&self) -> bool {
        !matches!(self.status, FileStatus::Passed | FileStatus::Failed) || self.error.is_some()
    }

    /// A file that the harness could not carry on with.
    pub(crate) fn crashed(message: impl Into<String>) -> Self {
        Self {
            status: FileStatus::Crashed,
            error: Some(plain(message)),
        }
    }
}

/// An error without a place.
pub(crate) fn plain(message: impl Into<String>) -> FileError {
    FileError {
        message: message.into(),
        location: None,
        traceback: Vec::new(),
    }
}

/// A duration as events have it.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
