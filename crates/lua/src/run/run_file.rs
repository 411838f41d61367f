//! Runs a file: its top level, then its tests, then the end of its scope.

use crate::engine::drive::{TaskEnd, drive_in_time};
use crate::engine::failure::Failure;
use crate::engine::file_data::file_data;
use crate::engine::test_file::TestFileState;
use crate::file::chunk::{file_task, load};
use crate::file::job::{ChunkError, FileJob, FileOutcome};
use crate::file::lua_state::{self, Purpose};
use crate::fixture;
use crate::testing::report::Reporter;
use crate::testing::{self, Choice, Registry, Settings, TestStatus, Verdict};
use mlua::Lua;
use provium_events::FileStatus;
use provium_pool::FileWatch;
use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::LocalSet;

/// How long the end of a file waits for host I/O whose caller has ended.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// How often a file's thread shows that it lives.
const BEAT: Duration = Duration::from_millis(500);

/// Runs the file to its end on this thread, which should be a thread of its own.
pub fn run_file(job: FileJob) -> FileOutcome {
    let built = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match built {
        Ok(runtime) => {
            let reporter = Reporter::new(&job.sink, &job.display);
            let watch = job.watch.clone();
            let work = async {
                tokio::select! {
                    outcome = run(job, &reporter) => outcome,
                    never = show_life(&watch) => match never {},
                }
            };
            let outcome = LocalSet::new().block_on(&runtime, work);
            // A host file that cannot be read to its end must not hold the run up.
            runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
            outcome
        }
        Err(error) => {
            let mut outcome = FileOutcome::empty(FileStatus::Crashed);
            outcome.chunk_error = Some(ChunkError::plain(format!("cannot start: {error}")));
            outcome
        }
    }
}

/// Shows from time to time that the thread is not stuck in code that cannot be interrupted.
async fn show_life(watch: &FileWatch) -> Infallible {
    loop {
        watch.beat();
        tokio::time::sleep(BEAT).await;
    }
}

pub(crate) async fn run(job: FileJob, reporter: &Reporter) -> FileOutcome {
    let mut outcome = FileOutcome::empty(FileStatus::Passed);
    let lua = match lua_state::build(&job, Purpose::Run) {
        Ok(lua) => lua,
        Err(error) => {
            outcome.status = FileStatus::Crashed;
            outcome.chunk_error = Some(ChunkError::plain(error.to_string()));
            return outcome;
        }
    };
    fixture::provide(&lua);
    let state = TestFileState::of(&lua);
    let result = run_in(&lua, &state, &job, reporter, &mut outcome).await;
    if let Err(error) = result {
        outcome.status = FileStatus::Crashed;
        outcome.chunk_error = Some(ChunkError::from(Failure::from(error)));
    }
    let finishing = finish(&state, &mut outcome);
    state.deadline.caller().take_turn(finishing).await;
    outcome
}

async fn run_in(
    lua: &Lua,
    state: &Rc<TestFileState>,
    job: &FileJob,
    reporter: &Reporter,
    outcome: &mut FileOutcome,
) -> mlua::Result<()> {
    let chunk = match load(lua, job) {
        Ok(chunk) => chunk,
        Err(error) => {
            outcome.fail(error);
            return Ok(());
        }
    };
    match drive_in_time(lua, &file_task(state), chunk, ()).await? {
        TaskEnd::Returned(_) => {}
        TaskEnd::Failed(failure) => {
            outcome.fail(ChunkError::from(failure));
            return Ok(());
        }
        TaskEnd::TimedOut(failure) => {
            outcome.fail(ChunkError::from(failure));
            outcome.status = FileStatus::TimedOut;
            return Ok(());
        }
        TaskEnd::Cancelled => {
            outcome.fail(ChunkError::plain("cancelled: the run was ended"));
            outcome.cancelled = true;
            return Ok(());
        }
    }
    let registry = file_data::<RefCell<Registry>>(lua).take();
    for missed in job.selection.missed(&registry.tests) {
        outcome.fail(ChunkError::plain(missed));
    }
    let tests = registry.tests.iter().filter_map(|test| {
        let choice = match (&registry.todo, job.selection.choose(test)) {
            (_, Choice::Leave) => return None,
            (Some(reason), _) => Choice::Skip(reason.clone()),
            (None, choice) => choice,
        };
        Some((test, choice))
    });
    let mut tests: Vec<_> = tests.collect();
    if let Some(seed) = job.shuffle {
        testing::shuffle(&mut tests, seed, &job.display);
    }
    let may_start = |_: &_| !job.start_no_more.is_cancelled();
    let tests = tests.into_iter().take_while(may_start);
    if file_data::<Settings>(lua).parallel.get() {
        let count = |verdict: &Verdict| outcome.count(verdict);
        let all = testing::run_parallel(lua, state, tests, reporter, count).await?;
        outcome.cancelled = !all && state.cancel.is_cancelled();
        outcome.note_time(state);
        return Ok(());
    }
    for (test, choice) in tests {
        if state.cancel.is_cancelled() {
            outcome.cancelled = true;
            return Ok(());
        }
        reporter.started(test);
        let verdict = match choice {
            Choice::Skip(reason) => Verdict::skipped(reason),
            _ => testing::run_test(lua, test, reporter, None).await?,
        };
        reporter.ended(test, &verdict);
        outcome.count(&verdict);
        if outcome.note_time(state) {
            return Ok(());
        }
    }
    Ok(())
}

/// Ends the file's own tasks, closes its scope, and reports what went wrong with that.
async fn finish(state: &TestFileState, outcome: &mut FileOutcome) {
    let failures = testing::end_tasks(&state.top_level.tasks.take()).await;
    for failure in failures {
        outcome.fail(ChunkError::from(failure));
    }
    state.top_level.children.end();
    for problem in testing::close(&state.scope).await {
        outcome.fail(ChunkError::plain(problem));
    }
    if let Some(error) = &mut outcome.chunk_error {
        testing::write_of_error(state, error);
    }
}

impl FileOutcome {
    fn empty(status: FileStatus) -> Self {
        Self {
            status,
            chunk_error: None,
            passed: 0,
            failed: 0,
            skipped: 0,
            cancelled: false,
        }
    }

    /// Something went wrong outside of any test. Only the first error is reported in full.
    fn fail(&mut self, error: ChunkError) {
        if self.status == FileStatus::Passed {
            self.status = FileStatus::Failed;
        }
        match &mut self.chunk_error {
            None => self.chunk_error = Some(error),
            Some(first) => {
                first.message.push('\n');
                first.message.push_str(&error.message);
            }
        }
    }

    /// Takes note that the file's time is over; whether it is.
    fn note_time(&mut self, state: &TestFileState) -> bool {
        let is_over = state.deadline.is_past();
        if is_over {
            self.status = FileStatus::TimedOut;
        }
        is_over
    }

    fn count(&mut self, verdict: &Verdict) {
        match verdict.status {
            TestStatus::Passed => self.passed += 1,
            TestStatus::Skipped => self.skipped += 1,
            TestStatus::Interrupted | TestStatus::NotRun => {}
            TestStatus::Failed => {
                self.failed += 1;
                if self.status == FileStatus::Passed {
                    self.status = FileStatus::Failed;
                }
            }
        }
    }
}
