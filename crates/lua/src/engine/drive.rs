//! Drives a task's coroutine to its end: its own, its deadline's, or the user's.

use crate::engine::blocked_syscalls;
use crate::engine::failure::Failure;
use crate::engine::frames::Frame;
use crate::engine::memory::{OUT_OF_MEMORY, out_of_memory};
use crate::engine::task::{Task, TaskState};
use crate::engine::test_file::TestFileState;
use crate::text;
use mlua::{Function, IntoLuaMulti, Lua, MultiValue, Thread, Value};
use provium_pool::StopReason;
use provium_units::format_duration;
use std::rc::Rc;
use std::time::Duration;

/// From this on a wait that did not count is named where the time was over.
const WORTH_NAMING: Duration = Duration::from_millis(100);

/// How a task ended.
#[derive(Debug)]
pub(crate) enum TaskEnd {
    /// Its function returned these.
    Returned(MultiValue),
    /// Its function raised.
    Failed(Failure),
    /// Its deadline passed; the failure says in which call.
    TimedOut(Failure),
    /// It was stopped by its scope, by `cancel()` or by the user.
    Cancelled,
}

/// Runs `function` as the task's coroutine.
pub(crate) async fn drive(
    lua: &Lua,
    task: &Rc<Task>,
    function: Function,
    args: impl IntoLuaMulti,
) -> mlua::Result<TaskEnd> {
    let state = TestFileState::of(lua);
    let mut values = args.into_lua_multi(lua)?;
    values.push_front(Value::Function(function));
    let thread = lua.create_thread(state.prelude.guarded.clone())?;
    let running = thread.clone().into_async::<MultiValue>(values)?;
    let ended = tokio::select! {
        biased;
        // First, so that a cancelled call takes no further step once the canceller has continued.
        () = task.stop_asked() => None,
        done = task.enter(running) => Some(done),
        () = task.deadline.passed() => None,
        () = state.cancel.cancelled() => None,
    };
    let ended = match ended {
        Some(done) => finished(lua, &state, task, done)?,
        None => {
            task.keep_place();
            stopped(&state, task)
        }
    };
    close(lua, task, &thread);
    crate::engine::hook::reset_interval(lua)?;
    Ok(ended)
}

/// The same for what must not outlive its deadline unnoticed: where it was in code that could not be
/// interrupted, or another task of the test was, it ends by itself, but too late.
pub(crate) async fn drive_in_time(
    lua: &Lua,
    task: &Rc<Task>,
    function: Function,
    args: impl IntoLuaMulti,
) -> mlua::Result<TaskEnd> {
    let ended = drive(lua, task, function, args).await?;
    if !matches!(ended, TaskEnd::Returned(_)) || !task.deadline.is_past() {
        return Ok(ended);
    }
    let tasks = task.group.tasks.borrow().clone();
    let looped = tasks.iter().find_map(|task| task.interrupted_at());
    let (place, frames) = match looped {
        Some(frames) => match frames.first() {
            Some(frame) => (format!("a task at {}", frame.site), frames),
            None => ("a task".to_owned(), frames),
        },
        None => ("code that could not be interrupted".to_owned(), Vec::new()),
    };
    Ok(timed_out(&TestFileState::of(lua), task, &place, frames))
}

/// Drives `task` and notes how it ended in the task itself.
pub(crate) async fn drive_spawned(lua: Lua, task: Rc<Task>, function: Function, args: MultiValue) {
    let state = match drive(&lua, &task, function, args).await {
        Ok(TaskEnd::Returned(values)) => TaskState::Returned(values),
        Ok(TaskEnd::Failed(failure)) => TaskState::Failed(failure),
        Ok(TaskEnd::TimedOut(_) | TaskEnd::Cancelled) => TaskState::Cancelled,
        Err(error) => TaskState::Failed(error.into()),
    };
    task.end(state);
}

/// The coroutine ended by itself, or because the hook interrupted it.
fn finished(
    lua: &Lua,
    state: &TestFileState,
    task: &Task,
    done: mlua::Result<MultiValue>,
) -> mlua::Result<TaskEnd> {
    if let Some(frames) = task.interrupted_at() {
        return Ok(interrupted(state, task, None, frames));
    }
    let mut results = match done {
        Ok(results) => results,
        // The guard itself failed: out of memory.
        Err(error) => return Ok(TaskEnd::Failed(error.into())),
    };
    match (results.pop_front(), results.front()) {
        (Some(Value::Boolean(true)), _) => Ok(TaskEnd::Returned(results)),
        (_, Some(Value::Table(table))) => {
            let mut failure = Failure::from_table(table)?;
            if failure.message == OUT_OF_MEMORY {
                failure.message = out_of_memory();
            }
            failure.suggest_global(lua);
            failure.begin_where_it_says(&state.sources.borrow());
            Ok(TaskEnd::Failed(failure))
        }
        // The handler was not called, or failed: out of memory, or of stack.
        (_, other) => Ok(TaskEnd::Failed(Failure::new(describe(other)))),
    }
}

/// The coroutine waits and is not to be waited for.
fn stopped(state: &TestFileState, task: &Task) -> TaskEnd {
    match task.current_call() {
        Some((label, frames)) => {
            let during = match task.place_in_build() {
                Some(place) => format!("{label}, whose script was in {place}"),
                None => label,
            };
            interrupted(state, task, Some(during), frames)
        }
        None => interrupted(state, task, None, Vec::new()),
    }
}

fn interrupted(
    state: &TestFileState,
    task: &Task,
    during: Option<String>,
    frames: Vec<Frame>,
) -> TaskEnd {
    if state.cancel.is_cancelled() || !task.deadline.is_past() {
        return TaskEnd::Cancelled;
    }
    let place = during.unwrap_or_else(|| match frames.first() {
        Some(frame) => format!("Lua code at {}", frame.site),
        None => "Lua code".to_owned(),
    });
    timed_out(state, task, &place, frames)
}

fn timed_out(state: &TestFileState, task: &Task, place: &str, frames: Vec<Frame>) -> TaskEnd {
    let after = format_duration(task.deadline.allowed());
    let whole = if task.deadline.ends_file() {
        "the file "
    } else {
        ""
    };
    let uncounted = uncounted(|reason| task.deadline.stopped_for(reason));
    let held_up = blocked_syscalls::note(&state.lab, &task.scope, place);
    let mut failure = Failure::new(format!(
        "{whole}timed out after {after}{uncounted} in {place}{held_up}"
    ));
    failure.frames = frames;
    TaskEnd::TimedOut(failure)
}

/// What of the time did not count.
fn uncounted(stopped_for: impl Fn(StopReason) -> Duration) -> String {
    let reasons = [
        (StopReason::Pool, "of waiting for the pool"),
        (StopReason::Work, "of making the images of disks"),
    ];
    let times = reasons.map(|(reason, what)| (stopped_for(reason), what));
    let times = times.into_iter().filter(|(time, _)| *time >= WORTH_NAMING);
    let times: Vec<_> = times
        .map(|(time, what)| format!("{:.1}s {what}", time.as_secs_f64()))
        .collect();
    match &times[..] {
        [] => String::new(),
        times => format!(" (and {})", times.join(", ")),
    }
}

/// Cancels what the task still waits for, and runs its to-be-closed variables.
fn close(lua: &Lua, task: &Rc<Task>, thread: &Thread) {
    task.drop_calls();
    let closed = lua.create_function(|_, ()| Ok(())).and_then(|nothing| {
        // A handler that waits, raises or loops is cut short. Its error has no recipient left.
        task.enter_sync(|| thread.reset(nothing))
    });
    if let Err(error) = closed {
        tracing::debug!(%error, "closing a task's coroutine");
    }
    // What such a handler began, too.
    task.drop_calls();
}

fn describe(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) if text.as_bytes() == OUT_OF_MEMORY.as_bytes() => out_of_memory(),
        Some(Value::String(text)) => text::display(&text.as_bytes()),
        Some(Value::Error(error)) => Failure::from((**error).clone()).message,
        _ => "an error without a message".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_that_did_not_count_is_named_by_its_reason() {
        let text = |pool, work| {
            uncounted(|reason| {
                Duration::from_millis(match reason {
                    StopReason::Pool => pool,
                    StopReason::Work => work,
                })
            })
        };
        assert_eq!(text(99, 0), "");
        assert_eq!(text(1500, 50), " (and 1.5s of waiting for the pool)");
        assert_eq!(text(0, 2000), " (and 2.0s of making the images of disks)");
        let both = " (and 0.1s of waiting for the pool, 0.2s of making the images of disks)";
        assert_eq!(text(100, 200), both);
    }
}
