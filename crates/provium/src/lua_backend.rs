//! Runs and lists the test files that the runner dispatches, with `provium-lua`.

use provium_events::{FileError, FileStatus, Location, Sink};
use provium_lab::Environment;
use provium_lua::{ChunkError, FileJob, FileOutcome, TestSelection, list_file};
use provium_pool::{CancelToken, FileWatch};
use provium_runner::{FileEnd, FileTask, RunFile, TestFile};
use std::sync::Arc;
use std::time::Duration;

/// Time for the top level of a file whose tests are listed for the report.
const LIST_LIMIT: Duration = Duration::from_secs(2);

/// What all files of a run have in common.
#[derive(Clone)]
pub(crate) struct LuaFiles {
    /// Which tests, before what a file's own address says.
    pub(crate) selection: TestSelection,
    /// How often a failed test is tried again.
    pub(crate) retries: u32,
    /// The seed of the order of tests, if it is random.
    pub(crate) shuffle: Option<u64>,
    /// Profiles, images, QEMU.
    pub(crate) environment: Arc<Environment>,
}

impl LuaFiles {
    /// Runs files in Lua.
    pub(crate) fn runner(self) -> Arc<dyn RunFile> {
        Arc::new(self)
    }

    /// The job of running (or listing) `file`.
    pub(crate) fn job(
        &self,
        file: TestFile,
        sink: Sink,
        cancel: CancelToken,
        file_timeout: Option<Duration>,
    ) -> FileJob {
        let mut selection = self.selection.clone();
        selection.exact.extend(file.names);
        selection.lines.extend(file.lines);
        FileJob {
            path: file.path,
            display: file.display,
            base: file.root,
            package_roots: file.package_roots,
            selection,
            retries: self.retries,
            shuffle: self.shuffle,
            file_timeout,
            environment: Arc::clone(&self.environment),
            sink,
            cancel,
            start_no_more: CancelToken::new(),
            watch: FileWatch::default(),
        }
    }
}

impl RunFile for LuaFiles {
    fn run(&self, task: FileTask) -> FileEnd {
        let FileTask {
            file,
            sink,
            stop,
            start_no_more,
            timeout,
            watch,
        } = task;
        let job = self.job(file, sink, stop, timeout);
        end_of(provium_lua::run_file(FileJob {
            watch,
            start_no_more,
            ..job
        }))
    }

    fn abandon(&self, file: &TestFile) {
        self.environment.abandon(&file.display);
    }

    fn declared(&self, file: &TestFile) -> Vec<String> {
        let limit = Some(LIST_LIMIT);
        let job = self.job(file.clone(), Sink::discard(), CancelToken::new(), limit);
        let listing = list_file(&job);
        let tests = listing.map(|listing| listing.tests).unwrap_or_default();
        let selected = tests.into_iter().filter(|test| test.selected);
        selected.map(|test| test.name).collect()
    }
}

fn end_of(outcome: FileOutcome) -> FileEnd {
    if outcome.cancelled && outcome.failed == 0 {
        // What a file reports when the user ends the run is not a failure of it.
        return FileEnd {
            status: FileStatus::Interrupted,
            error: None,
        };
    }
    FileEnd {
        status: outcome.status,
        error: outcome.chunk_error.map(error_of),
    }
}

fn error_of(error: ChunkError) -> FileError {
    let location = |site: provium_lab::Site| Location {
        file: site.file,
        line: site.line,
        column: None,
    };
    FileError {
        message: error.message,
        location: error.site.map(location),
        traceback: error.traceback,
    }
}
