//! Task objects: what `co.spawn` returns.

use crate::binding::class::{Class, Object, async_function, object, raw_function};
use crate::binding::raise::LuaError;
use crate::binding::stack;
use crate::engine::drive::drive_spawned;
use crate::engine::task::{Task, TaskState};
use crate::engine::test_file::TestFileState;
use mlua::{Function, IntoLuaMulti, Lua, MultiValue, Result, Table, Value};
use provium_units::format_duration;
use std::rc::Rc;

/// Most tasks of a test, or of a file's top level, at a time; more come of a loop without end.
const MAX_TASKS: usize = 10_000;

/// A task as Lua holds it.
#[derive(Debug, Clone)]
pub(crate) struct TaskObject(Rc<Task>);

impl Object for TaskObject {
    const CLASS: &'static str = "task";
    fn subject(&self) -> String {
        self.0.home.as_ref().map_or_else(
            || "task".to_owned(),
            |site| format!("task started at {site}"),
        )
    }
    fn describe(&self) -> String {
        format!("{} ({})", self.subject(), status(&self.0))
    }
}

fn status(task: &Task) -> &'static str {
    match task.state() {
        TaskState::Running => "running",
        TaskState::Returned(_) => "done",
        TaskState::Failed(_) => "failed",
        TaskState::Cancelled => "cancelled",
    }
}

/// Makes the class, and what the prelude's part of it calls.
pub(crate) fn install(lua: &Lua, native: &Table) -> Result<()> {
    let prelude = TestFileState::of(lua).prelude.clone();
    Class::<TaskObject>::new(lua)?
        .lua_method("join", &prelude.method("join")?)?
        .method("cancel", |_, task, _| {
            task.0.stop();
            Ok(())
        })?
        .method("status", |_, task, _| Ok(status(&task.0)))?
        .method("close", |_, task, _| {
            task.0.stop();
            Ok(())
        })?
        .finish()?;
    native.raw_set(
        "spawn",
        raw_function(lua, "co.spawn", |lua, args| spawn(lua, args.values()))?,
    )?;
    let join = async_function(lua, "task:join", true, |lua, args| async move {
        let task = task_of(&args.value(0))?;
        let timeout = args.opt_duration(1, "the timeout")?;
        join(&lua, &task, timeout).await
    })?;
    native.raw_set("join", join)?;
    let join_all = async_function(lua, "parallel", true, |lua, args| async move {
        let tasks: Vec<_> = args
            .values()
            .iter()
            .map(task_of)
            .collect::<std::result::Result<_, _>>()?;
        join_all(&lua, &tasks).await
    })?;
    native.raw_set("join_all", join_all)
}

/// `spawn(fn, ...)`.
fn spawn(lua: &Lua, values: &[Value]) -> std::result::Result<Value, LuaError> {
    let [Value::Function(function), rest @ ..] = values else {
        return Err(LuaError::argument("must be given a function"));
    };
    let parent = Task::current();
    let parent =
        parent.ok_or_else(|| LuaError::argument("tasks are started in tests and files only"))?;
    let task = parent.child(stack::place(lua));
    let arguments = MultiValue::from_iter(rest.iter().cloned());
    start(lua, &task, function.clone(), arguments)?;
    Ok(object(lua, TaskObject(task))?)
}

/// Starts `task`, which the test, or the file, that it belongs to is to end.
pub(crate) fn start(
    lua: &Lua,
    task: &Rc<Task>,
    function: Function,
    arguments: MultiValue,
) -> std::result::Result<(), LuaError> {
    if task.group.ended.get() {
        return Err(LuaError::argument("the test has ended"));
    }
    let mut tasks = task.group.tasks.borrow_mut();
    if tasks.len() >= MAX_TASKS {
        tasks.retain(|task| !task.is_settled());
    }
    if tasks.len() >= MAX_TASKS {
        return Err(LuaError::argument(format!(
            "there are {MAX_TASKS} tasks already that have not ended"
        )));
    }
    tasks.push(Rc::clone(task));
    let driven = drive_spawned(lua.clone(), Rc::clone(task), function, arguments);
    tokio::task::spawn_local(driven);
    Ok(())
}

fn task_of(value: &Value) -> std::result::Result<Rc<Task>, LuaError> {
    let task = match value {
        Value::UserData(userdata) => userdata
            .borrow::<TaskObject>()
            .ok()
            .map(|task| Rc::clone(&task.0)),
        _ => None,
    };
    task.ok_or_else(|| LuaError::argument("needs a task before its arguments (call it with `:`)"))
}

async fn join(
    lua: &Lua,
    task: &Rc<Task>,
    timeout: Option<std::time::Duration>,
) -> std::result::Result<MultiValue, LuaError> {
    if Task::current().is_some_and(|current| Rc::ptr_eq(&current, task)) {
        return Err(LuaError::argument("a task cannot wait for itself"));
    }
    match timeout {
        None => task.ended().await,
        Some(limit) => {
            if tokio::time::timeout(limit, task.ended()).await.is_err() {
                return Err(LuaError::argument(format!(
                    "timed out after {}",
                    format_duration(limit)
                )));
            }
        }
    }
    outcome(lua, task)
}

/// `true` and the results, or `false` and the error.
pub(crate) fn outcome(lua: &Lua, task: &Task) -> std::result::Result<MultiValue, LuaError> {
    match task.state() {
        TaskState::Returned(mut values) => {
            values.push_front(Value::Boolean(true));
            Ok(values)
        }
        TaskState::Failed(failure) => {
            task.mark_seen();
            let value = match failure.value {
                Value::Nil => Value::String(lua.create_string(&failure.message)?),
                value => value,
            };
            Ok((false, value).into_lua_multi(lua)?)
        }
        TaskState::Cancelled | TaskState::Running => {
            Err(LuaError::argument("the task was cancelled"))
        }
    }
}

/// Ends what has not ended when it is dropped.
struct StopAll<'a>(&'a [Rc<Task>]);

impl Drop for StopAll<'_> {
    fn drop(&mut self) {
        for task in self.0 {
            task.stop();
        }
    }
}

/// Waits for all, or for the first that fails: then the others are ended, and its error is the result.
async fn join_all(lua: &Lua, tasks: &[Rc<Task>]) -> std::result::Result<MultiValue, LuaError> {
    let _stop = StopAll(tasks);
    let mut open: Vec<_> = tasks.iter().map(|task| Box::pin(task.ended())).collect();
    let first_bad = std::future::poll_fn(|context| {
        open.retain_mut(|ended| ended.as_mut().poll(context).is_pending());
        let bad = tasks
            .iter()
            .find(|task| matches!(task.state(), TaskState::Failed(_) | TaskState::Cancelled));
        match bad {
            Some(task) => std::task::Poll::Ready(Some(task)),
            None if open.is_empty() => std::task::Poll::Ready(None),
            None => std::task::Poll::Pending,
        }
    })
    .await;
    if let Some(task) = first_bad {
        for other in tasks {
            other.stop();
        }
        for other in tasks {
            other.ended().await;
            // The others' errors follow from the first one, or came too late to matter.
            other.mark_seen();
        }
        return outcome(lua, task);
    }
    let mut results = vec![Value::Boolean(true)];
    for task in tasks {
        let mut values = outcome(lua, task)?;
        values.pop_front();
        results.push(values.pop_front().unwrap_or(Value::Nil));
    }
    Ok(MultiValue::from_vec(results))
}
