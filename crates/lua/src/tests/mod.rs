//! Small Lua files run from end to end, without any guest.

mod bounds;
mod coroutines;
mod disks;
mod errors;
mod files;
mod globals;
mod habits;
mod listing;
mod networks;
mod objects;
mod outcomes;
mod parallel;
mod tasks;
mod timeouts;

use crate::TestListing;
use crate::file::job::{FileJob, FileOutcome};
use crate::run::run_file::run;
use crate::testing::report::Reporter;
use crate::testing::{TestSelection, TestStatus, Verdict};
use camino::Utf8PathBuf;
use provium_events::Sink;
use provium_lab::Environment;
use provium_pool::CancelToken;
use provium_pool::FileWatch;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::LocalSet;

/// A folder with a Lua file in it, ready to be run.
struct Case {
    folder: TempDir,
    job: FileJob,
    /// The lab's I/O would run here.
    runtime: tokio::runtime::Runtime,
}

/// What came of running it.
struct RunOutcome {
    outcome: FileOutcome,
    tests: Vec<(String, Verdict)>,
}

impl Case {
    fn new(source: &str) -> Self {
        Self::with_sink(source, Sink::default())
    }

    fn with_sink(source: &str, sink: Sink) -> Self {
        let folder = TempDir::new().unwrap();
        let root = Utf8PathBuf::try_from(folder.path().to_path_buf()).unwrap();
        let path = root.join("a.test.lua");
        fs_err::write(&path, source).unwrap();
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let environment =
            Environment::without_machines(Vec::new(), sink.clone(), runtime.handle().clone());
        let job = FileJob {
            path,
            display: "a.test.lua".to_owned(),
            base: root.clone(),
            package_roots: vec![root],
            selection: TestSelection::default(),
            retries: 0,
            shuffle: None,
            file_timeout: Some(Duration::from_secs(60)),
            environment: Arc::new(environment),
            sink,
            cancel: CancelToken::new(),
            start_no_more: CancelToken::new(),
            watch: FileWatch::default(),
        };
        Self {
            folder,
            job,
            runtime,
        }
    }

    fn with_file(self, name: &str, source: &str) -> Self {
        let path = self.folder.path().join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, source).unwrap();
        self
    }

    fn run(&self) -> RunOutcome {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let reporter = Reporter::new(&self.job.sink, &self.job.display);
        let outcome = LocalSet::new().block_on(&runtime, run(self.job.clone(), &reporter));
        RunOutcome {
            outcome,
            tests: reporter.seen.take(),
        }
    }

    fn list(&self) -> Result<TestListing, crate::ChunkError> {
        crate::list_file(&self.job)
    }
}

impl RunOutcome {
    /// The verdict on the test of that name.
    fn test(&self, name: &str) -> &Verdict {
        let found = self.tests.iter().find(|(known, _)| known == name);
        &found
            .unwrap_or_else(|| panic!("no test `{name}`: {:?}", self.outcome))
            .1
    }

    /// The test's message, after checking that it failed.
    fn failure(&self, name: &str) -> &str {
        let verdict = self.test(name);
        assert_eq!(verdict.status, TestStatus::Failed, "{name}: {verdict:?}");
        &verdict.message
    }

    /// Panics unless every test passed.
    fn all_passed(&self) {
        for (name, verdict) in &self.tests {
            assert_eq!(
                verdict.status,
                TestStatus::Passed,
                "{name}: {}",
                verdict.message
            );
        }
        assert!(
            self.outcome.chunk_error.is_none(),
            "{:?}",
            self.outcome.chunk_error
        );
        assert!(!self.tests.is_empty());
    }
}

/// Runs a file of which every test must pass.
fn passes(source: &str) {
    Case::new(source).run().all_passed();
}
