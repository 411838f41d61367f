//! Runs one test: its attempts, its deferred functions, the end of its scope; and judges it.

use super::kernel_logs::Watched;
use super::parallel::{Entry, Gate, OwnLab, Stay};
use super::reset::before_test;
use super::verdict::{Expected, Status, TestRun, Verdict};
use super::{Declared, context::TestContext};
use crate::binding::text::without_middle;
use crate::engine::drive::{Ended, drive_in_time};
use crate::engine::failure::Failure;
use crate::engine::task::Task;
use crate::engine::test_file::FileState;
use crate::testing::consoles;
use crate::testing::report::Reporter;
use mlua::{Lua, Value};
use provium_lab::Scope;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Time that the deferred functions of a test have in all, at most and at least; between the two, as
/// much as the test itself.
const DEFER_TIMEOUT: Duration = Duration::from_secs(30);
const LEAST_DEFER_TIMEOUT: Duration = Duration::from_secs(5);
/// Time that each has still where the others took it all, and all of these together.
const LAST_DEFER_TIMEOUT: Duration = Duration::from_millis(200);
const LATE_DEFER_TIMEOUT: Duration = Duration::from_secs(2);
/// Time that closing a scope has; the lab has shorter deadlines of its own for each resource.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest message of a test, bytes; what is left out of it says so.
const MAX_MESSAGE: usize = 1 << 20;

/// What stands ready for an attempt.
pub(super) struct Prepared<'a> {
    /// When its time began.
    pub(super) started: Instant,
    /// What it has of its own instead of the file's.
    pub(super) own_lab: Option<OwnLab>,
    /// Why it cannot begin.
    pub(super) failed: Option<String>,
    pub(super) stay: Option<Stay<'a>>,
}

/// Runs `test`, again where it may be tried again; `inside` the gate, where tests run side by side.
pub(crate) async fn run_test(
    lua: &Lua,
    test: &Declared,
    reporter: &Reporter,
    mut inside: Option<(&Gate<'_>, Result<Entry<'_>, String>)>,
) -> mlua::Result<Verdict> {
    let state = FileState::of(lua);
    let retries = test
        .meta
        .retries
        .or(state.settings.retries.get())
        .unwrap_or(0);
    let gate = inside.as_ref().map(|(gate, _)| *gate);
    let mut attempt = 1;
    loop {
        let prepared = match inside.take() {
            Some((gate, entry)) => gate.prepare(entry).await,
            None => on_the_files_own(&state).await,
        };
        let mut verdict = run_once(lua, &state, test, prepared).await?;
        verdict.attempts = attempt;
        // One that is expected to fail is judged as it is: its failure is no reason to try again.
        let again = verdict.status == Status::Failed
            && test.meta.expect_fail.is_none()
            && attempt <= retries
            && !verdict.cancelled
            && !state.deadline.is_past();
        if !again {
            return Ok(judge(test, verdict));
        }
        reporter.retried(test, &verdict);
        attempt += 1;
        if let Some(gate) = gate {
            inside = Some((gate, gate.enter().await));
        }
    }
}

async fn on_the_files_own<'a>(state: &FileState) -> Prepared<'a> {
    Prepared {
        started: Instant::now(),
        failed: before_test(state).await,
        own_lab: None,
        stay: None,
    }
}

async fn run_once(
    lua: &Lua,
    state: &FileState,
    test: &Declared,
    prepared: Prepared<'_>,
) -> mlua::Result<Verdict> {
    let Prepared {
        started,
        own_lab,
        failed,
        stay,
    } = prepared;
    let meta = match &test.meta_table {
        Some(table) => table.clone(),
        None => lua.create_table()?,
    };
    let run = TestRun::new(
        test.name.clone(),
        Value::Table(meta),
        state.early_log.take(),
        own_lab,
    );
    let file_scope = match &*run.own_lab.borrow() {
        Some(own_lab) => own_lab.scope.clone(),
        None => state.scope.clone(),
    };
    let scope = file_scope.child(&test.name);
    // 0 switches the limit off; so does saying nothing: then the file's own limit holds.
    let timeout = test.meta.timeout.or(state.settings.timeout.get());
    let timeout = timeout.filter(|timeout| !timeout.is_zero());
    let deadline = state.deadline.within(timeout);
    let home = Some(test.site.clone());
    let task = Task::new(scope.clone(), Some(Rc::clone(&run)), deadline, home);
    let t = crate::binding::class::object(lua, TestContext(Rc::clone(&run)))?;
    let ended = match failed {
        None => drive_in_time(lua, &task, test.body.clone(), t.clone()).await?,
        Some(_) if state.cancel.is_cancelled() => Ended::Cancelled,
        Some(why) => Ended::Failed(Failure::new(why)),
    };

    let mut problems = run_deferred(lua, state, &run, &scope, timeout).await?;
    problems.extend(end_tasks(&run.tasks.take()).await);
    run.ended.set(true);
    run.children.end();
    let mut verdict = Verdict {
        status: Status::Passed,
        ..Verdict::skipped("")
    };
    conclude(&mut verdict, &run, ended, problems);
    // Once the scope is closed its VMs are no longer found.
    let mut excerpts = consoles::excerpts(&state.lab, &scope);
    let own_lab = run.own_lab.take();
    let watched = Watched::new(state, &scope, own_lab.as_ref());
    if own_lab.is_some() {
        file_scope.announce_end();
    }
    if state.cancel.is_cancelled() || state.deadline.is_past() {
        state.scope.announce_end();
    }
    let mut unclosed = close(&scope).await;
    if own_lab.is_some() {
        unclosed.extend(close(&file_scope).await);
    }
    drop(stay);
    if !unclosed.is_empty() && verdict.status != Status::Failed {
        verdict.status = Status::Failed;
        verdict.message = unclosed.join("\n");
    } else {
        verdict.log.extend(unclosed);
    }
    watched.conclude(&state.kernel_logs, &test.meta.kernel_log, &mut verdict);
    if verdict.status == Status::Failed {
        consoles::mark_contained(&mut excerpts, &verdict.message);
        verdict.consoles = excerpts;
    }
    verdict.duration = started.elapsed();
    Ok(verdict)
}

/// Runs what the test deferred, last first. What each raises is reported and stops none.
async fn run_deferred(
    lua: &Lua,
    state: &FileState,
    run: &Rc<TestRun>,
    scope: &Scope,
    timeout: Option<Duration>,
) -> mlua::Result<Vec<Failure>> {
    let mut problems = Vec::new();
    let in_all = timeout.map_or(DEFER_TIMEOUT, |own| {
        own.clamp(LEAST_DEFER_TIMEOUT, DEFER_TIMEOUT)
    });
    let started = Instant::now();
    loop {
        let Some(function) = run.deferred.borrow_mut().pop() else {
            return Ok(problems);
        };
        let taken = started.elapsed();
        if taken >= in_all + LATE_DEFER_TIMEOUT {
            // Each of them looped, or waited, until its own time was up.
            let left = run.deferred.take().len() + 1;
            let text = format!("{left} deferred functions were not run: there was no time left");
            problems.push(Failure::new(text));
            return Ok(problems);
        }
        let left = in_all.saturating_sub(taken).max(LAST_DEFER_TIMEOUT);
        let deadline = state.deadline.within(Some(left));
        let task = Task::new(scope.clone(), Some(Rc::clone(run)), deadline, None);
        match drive_in_time(lua, &task, function, ()).await? {
            Ended::Failed(mut failure) | Ended::TimedOut(mut failure) => {
                failure.message = format!("deferred function: {}", failure.message);
                problems.push(failure);
            }
            Ended::Returned(_) | Ended::Cancelled => {}
        }
    }
}

/// Ends the tasks that still run; returns what others raised that nobody was told.
pub(crate) async fn end_tasks(tasks: &[Rc<Task>]) -> Vec<Failure> {
    // What a task raised before its end was asked for counts; what comes of ending it does not.
    let failures = tasks.iter().filter_map(|task| task.unseen_failure());
    let failures = failures.map(|mut failure| {
        failure.message = format!("in a task that nobody joined: {}", failure.message);
        failure
    });
    let failures = failures.collect();
    for task in tasks {
        task.stop();
    }
    for task in tasks {
        task.ended().await;
    }
    failures
}

/// Closes a scope; says what could not be closed.
pub(crate) async fn close(scope: &Scope) -> Vec<String> {
    match tokio::time::timeout(CLOSE_TIMEOUT, scope.close()).await {
        Ok(failures) => failures.iter().map(ToString::to_string).collect(),
        Err(_) => vec![format!(
            "closing what the test made: not done within {CLOSE_TIMEOUT:?}"
        )],
    }
}

/// From how the body ended, what was asserted and what else went wrong, to passed, failed, skipped.
fn conclude(verdict: &mut Verdict, run: &TestRun, ended: Ended, problems: Vec<Failure>) {
    let mut failures = Vec::new();
    let mut skipped = run.skip.take();
    match ended {
        Ended::Returned(_) => {}
        Ended::Failed(failure) if failure.skip => {}
        Ended::Failed(failure) => {
            skipped = None;
            failures.push(failure);
        }
        Ended::TimedOut(failure) => {
            verdict.timed_out = true;
            failures.push(failure);
        }
        Ended::Cancelled => {
            verdict.cancelled = true;
            failures.push(Failure::new("cancelled: the run was ended"));
        }
    }
    if let Some(sticky) = run.sticky.take() {
        let same = failures
            .iter_mut()
            .find(|failure| failure.message == sticky.message);
        match same {
            // It may have been caught and raised again by a helper; here is where it was raised first.
            Some(failure) => failure.frames = sticky.frames,
            None => failures.insert(0, sticky),
        }
    }
    failures.extend(problems);
    verdict.log = run.log.take().into_lines();
    verdict.log.extend(run.notes());
    verdict.attachments = run.attachments.take();
    verdict.steps = run.steps.take();
    for step in &mut verdict.steps {
        step.duration.get_or_insert_with(|| step.started.elapsed());
    }
    if let Some(first) = failures.first() {
        verdict.status = Status::Failed;
        let texts: Vec<_> = failures
            .iter()
            .map(|failure| failure.message.as_str())
            .collect();
        verdict.message = without_middle(texts.join("\n"), MAX_MESSAGE);
        verdict.failure = Some(first.clone());
    } else if let Some(reason) = skipped {
        verdict.status = Status::Skipped;
        verdict.message = without_middle(reason, MAX_MESSAGE);
    }
}

/// Holds the verdict against what the meta expects.
fn judge(test: &Declared, mut verdict: Verdict) -> Verdict {
    let Some(reason) = &test.meta.expect_fail else {
        return verdict;
    };
    match verdict.status {
        Status::Failed if !verdict.cancelled => {
            verdict.status = Status::Passed;
            verdict.expected = Some(Expected::Fail(reason.clone()));
        }
        Status::Passed => {
            verdict.status = Status::Failed;
            verdict.message = format!("passed, but is expected to fail: {reason}");
            verdict.expected = Some(Expected::Pass(reason.clone()));
        }
        _ => {}
    }
    verdict
}
