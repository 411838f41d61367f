//! Runs one test: its attempts, its deferred functions, the end of its scope; and judges it.

use super::kernel_logs::Watched;
use super::reset::before_test;
use super::verdict::{Expected, Status, TestRun, Verdict};
use super::{Declared, context::TestContext};
use crate::consoles;
use crate::drive::{Ended, drive};
use crate::failure::Failure;
use crate::file::FileState;
use crate::report::Reporter;
use crate::task::Task;
use mlua::{Lua, Value};
use provium_lab::Scope;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Time that each deferred function has, at most.
const DEFER_TIMEOUT: Duration = Duration::from_secs(30);
/// Time that closing a scope has; the lab has shorter deadlines of its own for each resource.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs `test`, again where it may be tried again.
pub(crate) async fn run_test(
    lua: &Lua,
    test: &Declared,
    reporter: &Reporter,
) -> mlua::Result<Verdict> {
    let state = FileState::of(lua);
    let retries = test
        .meta
        .retries
        .or(state.settings.retries.get())
        .unwrap_or(0);
    let mut attempt = 1;
    loop {
        let mut verdict = run_once(lua, &state, test).await?;
        verdict.attempts = attempt;
        let again = verdict.status == Status::Failed
            && attempt <= retries
            && !verdict.cancelled
            && !state.deadline.is_past();
        if !again {
            return Ok(judge(test, verdict));
        }
        reporter.retried(test, &verdict);
        attempt += 1;
    }
}

async fn run_once(lua: &Lua, state: &FileState, test: &Declared) -> mlua::Result<Verdict> {
    let started = Instant::now();
    let meta = match &test.meta_table {
        Some(table) => table.clone(),
        None => lua.create_table()?,
    };
    let run = TestRun::new(
        test.name.clone(),
        Value::Table(meta),
        state.early_log.take(),
    );
    let scope = state.scope.child(&test.name);
    // 0 switches the limit off; so does saying nothing: then the file's own limit holds.
    let timeout = test.meta.timeout.or(state.settings.timeout.get());
    let timeout = timeout.filter(|timeout| !timeout.is_zero());
    let deadline = state.deadline.within(timeout);
    let home = Some(test.site.clone());
    let task = Task::new(scope.clone(), Some(Rc::clone(&run)), deadline, home);
    let t = crate::class::object(lua, TestContext(Rc::clone(&run)))?;
    let ended = match before_test(state).await {
        None => drive(lua, &task, test.body.clone(), t.clone()).await?,
        Some(why) => Ended::Failed(Failure::new(why)),
    };

    let mut problems = run_deferred(lua, state, &run, &scope).await?;
    problems.extend(end_tasks(&run.tasks.take()).await);
    run.ended.set(true);
    let mut verdict = Verdict {
        status: Status::Passed,
        ..Verdict::skipped("")
    };
    conclude(&mut verdict, &run, ended, problems);
    // Once the scope is closed its VMs are no longer found.
    let tails = consoles::tails(state, &scope);
    let watched = Watched::new(state, &scope);
    let unclosed = close(&scope).await;
    if !unclosed.is_empty() && verdict.status != Status::Failed {
        verdict.status = Status::Failed;
        verdict.message = unclosed.join("\n");
    } else {
        verdict.log.extend(unclosed);
    }
    watched.conclude(&state.kernel_logs, &test.meta.kernel_log, &mut verdict);
    if verdict.status == Status::Failed {
        verdict.consoles = tails;
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
) -> mlua::Result<Vec<Failure>> {
    let mut problems = Vec::new();
    loop {
        let Some(function) = run.deferred.borrow_mut().pop() else {
            return Ok(problems);
        };
        let deadline = state.deadline.within(Some(DEFER_TIMEOUT));
        let task = Task::new(scope.clone(), Some(Rc::clone(run)), deadline, None);
        match drive(lua, &task, function, ()).await? {
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
    if let Some(sticky) = run.sticky.take()
        && !failures
            .iter()
            .any(|failure| failure.message == sticky.message)
    {
        failures.insert(0, sticky);
    }
    failures.extend(problems);
    verdict.log = run.log.take();
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
        verdict.message = texts.join("\n");
        verdict.failure = Some(first.clone());
    } else if let Some(reason) = skipped {
        verdict.status = Status::Skipped;
        verdict.message = reason;
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
