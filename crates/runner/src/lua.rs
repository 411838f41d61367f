//! Runs a file by way of `provium-lua`.

use crate::discover::TestFile;
use crate::dispatch::RunFile;
use crate::plan::{FileEnd, FileTask, plain};
use provium_events::{FileError, FileStatus, Location, Sink};
use provium_lab::Environment;
use provium_lua::{CancelToken, ChunkError, FileJob, FileOutcome, TestSelection};
use provium_pool::FileWatch;
use std::sync::Arc;
use std::time::Duration;

/// What all files of a run have in common.
#[derive(Clone)]
pub struct LuaFiles {
    /// Which tests, before what a file's own address says.
    pub selection: TestSelection,
    /// How often a failed test is tried again.
    pub retries: u32,
    /// Profiles, images, QEMU.
    pub environment: Arc<Environment>,
}

impl LuaFiles {
    /// Runs files in Lua.
    pub fn runner(self) -> Arc<dyn RunFile> {
        Arc::new(self)
    }

    /// The job of running (or listing) `file`.
    pub fn job(
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
            package_roots: file.package_roots,
            selection,
            retries: self.retries,
            file_timeout,
            environment: Arc::clone(&self.environment),
            sink,
            cancel,
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
            timeout,
            watch,
        } = task;
        let job = self.job(file, sink, stop, timeout);
        end_of(provium_lua::run_file(FileJob { watch, ..job }))
    }

    fn abandon(&self, file: &TestFile) {
        self.environment.abandon(&file.display);
    }
}

fn end_of(outcome: FileOutcome) -> FileEnd {
    let status = match outcome.status {
        // Not all of its tests were run, so it has not passed.
        FileStatus::Passed if outcome.cancelled => FileStatus::Failed,
        status => status,
    };
    let cut_short = || plain("cancelled: the run was ended before all its tests had run");
    let error = outcome.chunk_error.map(error_of);
    FileEnd {
        status,
        error: error.or_else(|| outcome.cancelled.then(cut_short)),
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
