//! Drives a task's coroutine to its end: its own, its deadline's, or the user's.

use crate::failure::{Failure, Frame};
use crate::file::FileState;
use crate::task::{Task, TaskState};
use crate::units;
use mlua::{Function, IntoLuaMulti, Lua, MultiValue, Thread, Value};
use std::rc::Rc;

/// How a task ended.
#[derive(Debug)]
pub(crate) enum Ended {
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
) -> mlua::Result<Ended> {
    let state = FileState::of(lua);
    let mut values = args.into_lua_multi(lua)?;
    values.push_front(Value::Function(function));
    let thread = lua.create_thread(state.prelude.guarded.clone())?;
    let running = thread.clone().into_async::<MultiValue>(values)?;
    let ended = tokio::select! {
        biased;
        // First: a call that is cancelled must not take its last step after whoever cancelled it went on.
        () = task.stop_asked() => None,
        done = task.enter(running) => Some(done),
        () = task.deadline.passed() => None,
        () = state.cancel.cancelled() => None,
    };
    let ended = match ended {
        Some(done) => finished(&state, task, done)?,
        None => {
            task.keep_place();
            stopped(&state, task)
        }
    };
    close(lua, task, &thread);
    crate::hook::calm(lua)?;
    Ok(ended)
}

/// Drives `task` and notes how it ended in the task itself.
pub(crate) async fn drive_spawned(lua: Lua, task: Rc<Task>, function: Function, args: MultiValue) {
    let state = match drive(&lua, &task, function, args).await {
        Ok(Ended::Returned(values)) => TaskState::Returned(values),
        Ok(Ended::Failed(failure)) => TaskState::Failed(failure),
        Ok(Ended::TimedOut(_) | Ended::Cancelled) => TaskState::Cancelled,
        Err(error) => TaskState::Failed(error.into()),
    };
    task.end(state);
}

/// The coroutine ended by itself, or because the hook interrupted it.
fn finished(state: &FileState, task: &Task, done: mlua::Result<MultiValue>) -> mlua::Result<Ended> {
    if let Some(frames) = task.interrupted_at() {
        return Ok(interrupted(state, task, None, frames));
    }
    let mut results = match done {
        Ok(results) => results,
        // The guard itself failed: out of memory.
        Err(error) => return Ok(Ended::Failed(error.into())),
    };
    match (results.pop_front(), results.front()) {
        (Some(Value::Boolean(true)), _) => Ok(Ended::Returned(results)),
        (_, Some(Value::Table(table))) => Ok(Ended::Failed(Failure::from_table(table)?)),
        // The handler failed: out of stack.
        (_, other) => Ok(Ended::Failed(Failure::new(describe(other)))),
    }
}

/// The coroutine waits and is not to be waited for.
fn stopped(state: &FileState, task: &Task) -> Ended {
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
    state: &FileState,
    task: &Task,
    during: Option<String>,
    frames: Vec<Frame>,
) -> Ended {
    if state.cancel.is_cancelled() || !task.deadline.is_past() {
        return Ended::Cancelled;
    }
    let after = units::spell(task.deadline.allowed());
    let whole = if task.deadline.ends_file() {
        "the file "
    } else {
        ""
    };
    let place = during.unwrap_or_else(|| match frames.first() {
        Some(frame) => format!("Lua code at {}", frame.site),
        None => "Lua code".to_owned(),
    });
    let mut failure = Failure::new(format!("{whole}timed out after {after} in {place}"));
    failure.frames = frames;
    Ended::TimedOut(failure)
}

/// Cancels what the task still waits for, and runs its to-be-closed variables.
fn close(lua: &Lua, task: &Rc<Task>, thread: &Thread) {
    task.drop_calls();
    let closed = lua.create_function(|_, ()| Ok(())).and_then(|nothing| {
        // A handler that waits, or raises, or loops is cut short; there is nobody left to tell.
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
        Some(Value::String(text)) => text.to_string_lossy(),
        Some(Value::Error(error)) => Failure::from((**error).clone()).message,
        _ => "an error without a message".to_owned(),
    }
}
