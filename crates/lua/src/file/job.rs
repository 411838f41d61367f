//! What is asked of a file, and what came of it.

use crate::engine::failure::Failure;
use crate::testing::TestSelection;
use camino::Utf8PathBuf;
use provium_events::{FileStatus, Sink};
use provium_lab::{Environment, Site};
use provium_pool::{CancelToken, FileWatch};
use std::sync::Arc;
use std::time::Duration;

/// A file to run.
#[derive(Clone)]
pub struct FileJob {
    /// The file.
    pub path: Utf8PathBuf,
    /// Its path as people see it, relative to the folder in which they are.
    pub display: String,
    /// What relative paths of the host are relative to: its root.
    pub base: Utf8PathBuf,
    /// Folders that `require` looks in, first ones first.
    pub package_roots: Vec<Utf8PathBuf>,
    /// Which tests.
    pub selection: TestSelection,
    /// How often a failed test is tried again, where file and test say nothing.
    pub retries: u32,
    /// The tests are run in a random order, which this seed determines.
    pub shuffle: Option<u64>,
    /// Time for the whole file.
    pub file_timeout: Option<Duration>,
    /// Profiles, images, QEMU.
    pub environment: Arc<Environment>,
    /// Where events go.
    pub sink: Sink,
    /// Ends the run early.
    pub cancel: CancelToken,
    /// Thrown when no further test is to start.
    pub start_no_more: CancelToken,
    /// How others see how the file is getting on; also the clock of its time.
    pub watch: FileWatch,
}

/// What came of a file.
#[derive(Debug, Clone)]
pub struct FileOutcome {
    /// How it ended.
    pub status: FileStatus,
    /// What went wrong outside of any test.
    pub chunk_error: Option<ChunkError>,
    /// Tests that passed, those that failed as expected among them.
    pub passed: usize,
    /// Tests that failed.
    pub failed: usize,
    /// Tests that were skipped.
    pub skipped: usize,
    /// The user ended the run before the file was through.
    pub cancelled: bool,
}

/// What went wrong outside of any test: in the file's own code, or at its end.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ChunkError {
    /// What.
    pub message: String,
    /// Where, if that is known.
    pub site: Option<Site>,
    /// The author's frames, innermost first.
    pub traceback: Vec<String>,
}

impl ChunkError {
    pub(crate) fn plain(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            site: None,
            traceback: Vec::new(),
        }
    }
}

impl From<Failure> for ChunkError {
    fn from(failure: Failure) -> Self {
        let site = failure.site().cloned();
        Self {
            site,
            traceback: failure.traceback(),
            message: failure.message,
        }
    }
}

/// A test that a file declares.
#[derive(Debug, Clone)]
pub struct DeclaredTest {
    /// Its name.
    pub name: String,
    /// The line of its declaration.
    pub line: u32,
    /// Its tags.
    pub tags: Vec<String>,
    /// Whether it is slow.
    pub slow: bool,
    /// Whether it is skipped, and why.
    pub skip: Option<String>,
    /// Whether the selection asks for it.
    pub selected: bool,
    /// Its metadata, a map.
    pub meta: provium_events::Meta,
}

/// The tests of a file.
#[derive(Debug, Clone)]
pub struct TestListing {
    /// In the order of declaration.
    pub tests: Vec<DeclaredTest>,
    /// Why there may be more: the file's code needed a guest to continue.
    pub partial: Option<String>,
}
