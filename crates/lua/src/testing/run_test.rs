//! Runs one test: its attempts, its deferred functions, the end of its scope; and judges it.

use super::bridges;
use super::consoles;
use super::context::TestContext;
use super::disks;
use super::ending::{close, end_tasks};
use super::keep::keep;
use super::kept_files;
use super::kernel_logs::{KernelLogCheck, LogCursors};
use super::parallel_slots::{ParallelSlots, SlotPermit};
use super::prepared::{PreparedTest, TestLab};
use super::report::Reporter;
use super::reset::before_test;
use super::test_run::TestRun;
use super::verdict::{Expectation, Verdict};
use super::{Settings, TestDeclaration};
use crate::binding::class::object;
use crate::engine::cut::keep_in;
use crate::engine::drive::{TaskEnd, drive_in_time};
use crate::engine::failure::Failure;
use crate::engine::file_data::file_data;
use crate::engine::task::{Task, TaskGroup};
use crate::engine::test_file::TestFileState;
use crate::text::without_middle;
use mlua::{Lua, Value};
use provium_events::TestStatus;
use provium_lab::{FailedTest, Scope};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Time that the deferred functions of a test have in all, at most and at least; between the two, as
/// much as the test itself.
const DEFER_TIMEOUT: Duration = Duration::from_secs(30);
const LEAST_DEFER_TIMEOUT: Duration = Duration::from_secs(5);
/// Time that each has still where the others took it all, and all of these together.
const LAST_DEFER_TIMEOUT: Duration = Duration::from_millis(200);
const LATE_DEFER_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest message of a test, bytes; what is left out of it says so.
const MAX_MESSAGE: usize = 1 << 20;

/// Runs `test`, again where it may be tried again; `inside` the slots, where tests run side by side. All of it is a
/// turn of the file: what a test had is returned to the pool when its scope has been closed.
pub(crate) async fn run_test(
    lua: &Lua,
    test: &TestDeclaration,
    reporter: &Reporter,
    inside: Option<(&ParallelSlots, Result<SlotPermit<'_>, String>)>,
) -> mlua::Result<Verdict> {
    let state = TestFileState::of(lua);
    let caller = state.deadline.caller();
    let attempts = run_attempts(lua, &state, test, reporter, inside);
    caller.take_turn(attempts).await
}

async fn run_attempts(
    lua: &Lua,
    state: &TestFileState,
    test: &TestDeclaration,
    reporter: &Reporter,
    mut inside: Option<(&ParallelSlots, Result<SlotPermit<'_>, String>)>,
) -> mlua::Result<Verdict> {
    let retries = test
        .meta
        .retries
        .or(file_data::<Settings>(lua).retries.get())
        .unwrap_or(0);
    let slots = inside.as_ref().map(|(slots, _)| *slots);
    let mut attempt = 1;
    loop {
        let (prepared, guard) = match inside.take() {
            Some((slots, permit)) => slots.prepare(permit).await,
            None => (on_the_files_own(lua).await, None),
        };
        let is_final = attempt > retries && test.meta.expect_fail.is_none();
        let mut verdict = run_once(lua, state, test, prepared, is_final).await?;
        drop(guard);
        verdict.attempts = attempt;
        // The failure of a test that is expected to fail is its result.
        let again = verdict.status == TestStatus::Failed
            && test.meta.expect_fail.is_none()
            && attempt <= retries
            && !verdict.cancelled
            && !state.deadline.is_past();
        if !again {
            return Ok(judge(test, verdict));
        }
        reporter.retried(test, &verdict);
        attempt += 1;
        if let Some(slots) = slots {
            inside = Some((slots, slots.enter().await));
        }
    }
}

async fn on_the_files_own(lua: &Lua) -> PreparedTest {
    PreparedTest {
        started: Instant::now(),
        failed: before_test(lua).await,
        test_lab: None,
    }
}

async fn run_once(
    lua: &Lua,
    state: &TestFileState,
    test: &TestDeclaration,
    prepared: PreparedTest,
    is_final: bool,
) -> mlua::Result<Verdict> {
    let PreparedTest {
        started,
        test_lab,
        failed,
    } = prepared;
    // Tests that run in parallel have VMs of their own.
    let is_alone = test_lab.is_none();
    state
        .lab
        .set_current_test(is_alone.then_some(test.name.as_str()));
    let run = new_run(lua, state, test, test_lab.as_ref())?;
    let file_scope = match &test_lab {
        Some(test_lab) => test_lab.scope.clone(),
        None => state.scope.clone(),
    };
    let scope = file_scope.child(&test.name);
    let timeout = limit_of(lua, test);
    let deadline = state.deadline.within(timeout);
    let home = Some(test.site.clone());
    let task = Task::new(scope.clone(), Rc::clone(&run.group), deadline, home);
    let before = LabMarks::of(state, &scope).await;
    let t = object(lua, TestContext(Rc::clone(&run)))?;
    let ended = match failed {
        None => drive_in_time(lua, &task, test.body.clone(), t.clone()).await?,
        Some(_) if state.cancel.is_cancelled() => TaskEnd::Cancelled,
        Some(why) => TaskEnd::Failed(Failure::new(why)),
    };

    // Before the deferred functions clean up.
    let mut kept = None;
    if is_final && let Some(reason) = failure_of(&ended, &run) {
        kept = keep_vms(state, &scope, test, &reason).await;
    }
    let mut problems = run_deferred(lua, state, &run, &scope, timeout).await?;
    problems.extend(end_tasks(&run.group.tasks.take()).await);
    run.group.ended.set(true);
    run.group.children.end();
    let mut verdict = Verdict {
        status: TestStatus::Passed,
        ..Verdict::skipped("")
    };
    conclude(&mut verdict, &run, ended, problems);
    let failed_late = verdict.status == TestStatus::Failed && !verdict.cancelled;
    if is_final && failed_late && kept.is_none() {
        kept = keep_vms(state, &scope, test, &verdict.message).await;
    }
    verdict.log.extend(kept);
    // Once the scope is closed its VMs are no longer found.
    let console_ends = consoles::ends(&state.lab, &scope, &before.consoles);
    // Before what they run is ended with the scope.
    verdict.notes = lab_notes(state, &run.group, &scope, &before, verdict.status).await;
    let changed = disks::changed_images(&state.lab, &scope);
    run.group.lab_clone.take();
    let watched = KernelLogCheck::new(state, &scope, test_lab.as_ref());
    let test_lab_scope = test_lab.as_ref().map(|test_lab| &test_lab.scope);
    let mut late = changed;
    late.extend(close_scopes(state, &scope, test_lab_scope).await);
    if !late.is_empty() && verdict.status != TestStatus::Failed {
        verdict.status = TestStatus::Failed;
        verdict.message = late.join("\n");
    } else {
        verdict.log.extend(late);
    }
    let positions = file_data::<LogCursors>(lua);
    watched.conclude(&positions, &test.meta.kernel_log, &mut verdict);
    if verdict.status == TestStatus::Failed {
        let keep = keep_in(&state.lab);
        verdict.consoles = consoles::excerpts(console_ends, &verdict.message, &keep);
        kept_files::write(state, &mut verdict);
    }
    verdict.duration = started.elapsed();
    state.lab.set_current_test(None);
    Ok(verdict)
}

/// What a test writes and starts, in the lab that it works on.
fn new_run(
    lua: &Lua,
    state: &TestFileState,
    test: &TestDeclaration,
    test_lab: Option<&TestLab>,
) -> mlua::Result<Rc<TestRun>> {
    let meta = match &test.meta_table {
        Some(table) => table.clone(),
        None => lua.create_table()?,
    };
    let run = TestRun::new(
        test.name.clone(),
        Value::Table(meta),
        state.top_level.log.take(),
    );
    let copy = test_lab.map(|test_lab| Rc::clone(&test_lab.copy));
    run.group.lab_clone.replace(copy);
    Ok(run)
}

/// The time limit of a test, by its meta or by the settings of its file. `None`, which 0 means as well: only the limit
/// of the whole file.
fn limit_of(lua: &Lua, test: &TestDeclaration) -> Option<Duration> {
    let own = test.meta.timeout;
    let timeout = own.or(file_data::<Settings>(lua).timeout.get());
    timeout.filter(|timeout| !timeout.is_zero())
}

/// The parts of the lab when a test starts: its report has what has changed since.
struct LabMarks {
    consoles: consoles::Positions,
    lost_disks: BTreeSet<String>,
    bridges: bridges::Counters,
}

impl LabMarks {
    async fn of(state: &TestFileState, scope: &Scope) -> Self {
        Self {
            consoles: consoles::positions(&state.lab, scope),
            lost_disks: disks::lost(&state.lab, scope),
            bridges: bridges::counters(&state.lab, scope).await,
        }
    }
}

/// What the report of a test says of the lab: of a failed one all that may explain it, of others what was dropped.
async fn lab_notes(
    state: &TestFileState,
    test: &TaskGroup,
    scope: &Scope,
    before: &LabMarks,
    status: TestStatus,
) -> Vec<String> {
    if status == TestStatus::Failed {
        let parts = LabParts {
            bridges: bridges::lines(&state.lab, scope).await,
            disks: disks::lines(&state.lab, scope),
        };
        return notes(state, test, parts);
    }
    let counters = bridges::counters(&state.lab, scope).await;
    disks::warn_of_lost(state, scope, &before.lost_disks);
    bridges::drop_lines(&before.bridges, &counters)
}

/// Closes the scope of a test, then that of its own copy of the lab. Returns what could not be closed.
async fn close_scopes(
    state: &TestFileState,
    scope: &Scope,
    test_lab: Option<&Scope>,
) -> Vec<String> {
    if let Some(test_lab) = test_lab {
        test_lab.announce_end();
    }
    if state.cancel.is_cancelled() || state.deadline.is_past() {
        state.scope.announce_end();
    }
    let mut unclosed = close(scope).await;
    if let Some(test_lab) = test_lab {
        unclosed.extend(close(test_lab).await);
    }
    unclosed
}

/// Why the test has failed; `None` if it has not yet, or if the user ended it.
fn failure_of(ended: &TaskEnd, run: &TestRun) -> Option<String> {
    let own = match ended {
        TaskEnd::Failed(failure) if !failure.skip => Some(failure.message.clone()),
        TaskEnd::TimedOut(failure) => Some(failure.message.clone()),
        TaskEnd::Cancelled => return None,
        TaskEnd::Failed(_) | TaskEnd::Returned(_) => None,
    };
    own.or_else(|| {
        Some(
            run.group
                .failed_assertion
                .borrow()
                .as_ref()?
                .message
                .clone(),
        )
    })
}

async fn keep_vms(
    state: &TestFileState,
    scope: &Scope,
    test: &TestDeclaration,
    reason: &str,
) -> Option<String> {
    let failed = FailedTest {
        name: &test.name,
        reason,
    };
    keep(&state.lab, scope, &state.cancel, failed).await
}

/// What a failed test is reported with of the parts of its lab.
struct LabParts {
    bridges: Vec<String>,
    disks: Vec<String>,
}

/// What a failed test is reported with: the processes of the test and of the file's top level, failed commands whose
/// result was not checked, and parts of the lab.
fn notes(state: &TestFileState, test: &TaskGroup, parts: LabParts) -> Vec<String> {
    let groups = [&*state.top_level, test];
    let clone = test.lab_clone.borrow();
    let keep = keep_in(&state.lab);
    let processes = groups.map(|group| group.processes.lines(clone.as_deref(), &keep));
    let unseen = groups.map(|group| group.failed_commands.unseen_lines(&keep));
    let sections = [
        ("processes:", processes.concat()),
        (
            "failed commands whose result was not checked:",
            unseen.concat(),
        ),
        ("bridges:", parts.bridges),
        ("disks:", parts.disks),
    ];
    let mut notes = Vec::new();
    for (heading, lines) in sections.into_iter().filter(|(_, lines)| !lines.is_empty()) {
        notes.push(heading.to_owned());
        notes.extend(lines.into_iter().map(|line| format!("  {line}")));
    }
    notes
}

/// Runs what the test deferred, last first. What each raises is reported and stops none.
async fn run_deferred(
    lua: &Lua,
    state: &TestFileState,
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
        let task = Task::new(scope.clone(), Rc::clone(&run.group), deadline, None);
        match drive_in_time(lua, &task, function, ()).await? {
            TaskEnd::Failed(mut failure) | TaskEnd::TimedOut(mut failure) => {
                failure.message = format!("deferred function: {}", failure.message);
                problems.push(failure);
            }
            TaskEnd::Returned(_) | TaskEnd::Cancelled => {}
        }
    }
}

/// From how the body ended, what was asserted and what else went wrong, to passed, failed, skipped.
fn conclude(verdict: &mut Verdict, run: &TestRun, ended: TaskEnd, problems: Vec<Failure>) {
    let mut failures = Vec::new();
    let mut skipped = run.skip.take();
    match ended {
        TaskEnd::Returned(_) => {}
        TaskEnd::Failed(failure) if failure.skip => {}
        TaskEnd::Failed(failure) => {
            skipped = None;
            failures.push(failure);
        }
        TaskEnd::TimedOut(failure) => {
            verdict.timed_out = true;
            failures.push(failure);
        }
        TaskEnd::Cancelled => verdict.cancelled = true,
    }
    if let Some(first) = run.group.failed_assertion.take() {
        let same = failures
            .iter_mut()
            .find(|failure| failure.message == first.message);
        match same {
            // It may have been caught and raised again by a helper; here is where it was raised first.
            Some(failure) => failure.frames = first.frames,
            None => failures.insert(0, first),
        }
    }
    failures.extend(problems);
    verdict.log = run.group.log.take().into_lines();
    verdict.log.extend(run.notes());
    verdict.attachments = run.attachments.take();
    verdict.steps = run.steps.take();
    for step in &mut verdict.steps {
        step.duration.get_or_insert_with(|| step.started.elapsed());
    }
    if let Some(first) = failures.first() {
        verdict.status = TestStatus::Failed;
        let texts: Vec<_> = failures
            .iter()
            .map(|failure| failure.message.as_str())
            .collect();
        verdict.message = without_middle(texts.join("\n"), MAX_MESSAGE);
        verdict.failure = Some(first.clone());
    } else if verdict.cancelled {
        verdict.status = TestStatus::Interrupted;
        verdict.message = "the run was interrupted".to_owned();
    } else if let Some(reason) = skipped {
        verdict.status = TestStatus::Skipped;
        verdict.message = without_middle(reason, MAX_MESSAGE);
    }
}

/// Holds the verdict against what the meta expects.
fn judge(test: &TestDeclaration, mut verdict: Verdict) -> Verdict {
    let Some(reason) = &test.meta.expect_fail else {
        return verdict;
    };
    match verdict.status {
        TestStatus::Failed if !verdict.cancelled => {
            verdict.status = TestStatus::Passed;
            verdict.expected = Some(Expectation::Fail(reason.clone()));
        }
        TestStatus::Passed => {
            verdict.status = TestStatus::Failed;
            verdict.message = format!("passed, but is expected to fail: {reason}");
            verdict.expected = Some(Expectation::Pass(reason.clone()));
        }
        _ => {}
    }
    verdict
}
