//! `bridge:during(time, faults, fn)`: faults that last as long as a function runs, and are undone whatever happens.

use super::handles::BridgeObject;
use super::members::{member_names, paths_of};
use super::rules::{IMPAIRMENTS, groups_of, impairment_of, partition_in};
use crate::api::objects::value::as_object;
use crate::api::objects::{outcome, start};
use crate::binding::args::Args;
use crate::binding::class::{Class, Object as _, async_function};
use crate::binding::options::Options;
use crate::binding::preview::shown;
use crate::binding::raise::LuaError;
use crate::binding::stack;
use crate::engine::task::{Task, TaskState};
use crate::engine::test_file::TestFileState;
use mlua::{Function, IntoLuaMulti as _, Lua, MultiValue, Result, Table, Value};
use provium_lab::{Bridge, Faults};
use provium_units::format_duration;
use std::rc::Rc;
use std::time::Duration;

/// Adds `during`, which the prelude carries out: it passes on what the author's function returns or raises.
pub(super) fn add<'a>(
    class: Class<'a, BridgeObject>,
    native: &Table,
) -> Result<Class<'a, BridgeObject>> {
    let lua = class.lua();
    let during = async_function(lua, "bridge:during", true, |lua, args| async move {
        let bridge = as_object::<BridgeObject>(&args.value(0));
        let bridge = bridge.ok_or_else(|| {
            LuaError::argument("needs a bridge before its arguments (call it with `:`)")
        })?;
        let done = during(&lua, &bridge.0, &args).await;
        done.map_err(|error| LuaError::message(error.text(&bridge.subject(), "during")))
    })?;
    native.raw_set("during", during)?;
    let function = TestFileState::of(lua).prelude.method("during")?;
    class.lua_method("during", &function)
}

/// `true` and what the function returned, or `false` and what it raised.
async fn during(
    lua: &Lua,
    bridge: &Bridge,
    args: &Args,
) -> std::result::Result<MultiValue, LuaError> {
    let limit = args.duration(1, "the time")?;
    let faults = faults_of(bridge, &args.table(2, "the faults")?)?;
    // Undone when it is dropped, too.
    let active = bridge.rules().begin("during()", &faults).await?;
    let done = match args.value(3) {
        Value::Function(function) => run(lua, function, limit).await,
        _ => {
            tokio::time::sleep(limit).await;
            Ok(true.into_lua_multi(lua)?)
        }
    };
    active.end().await;
    done
}

/// Stops the function's task when `during` ends or is dropped.
struct TaskGuard(Rc<Task>);

impl Drop for TaskGuard {
    fn drop(&mut self) {
        self.0.stop();
    }
}

async fn run(
    lua: &Lua,
    function: Function,
    limit: Duration,
) -> std::result::Result<MultiValue, LuaError> {
    let parent = Task::current();
    let parent = parent.ok_or_else(|| {
        LuaError::argument("can only be called in a test or at the top level of a file")
    })?;
    let deadline = parent.deadline.within(Some(limit));
    let task = parent.child_within(deadline, stack::place(lua));
    start(lua, &task, function, MultiValue::new())?;
    parent.waits_for_predicate(&task);
    let task = TaskGuard(task);
    task.0.ended().await;
    if matches!(task.0.state(), TaskState::Cancelled) {
        let place = task.0.stopped_in();
        let place = place.map_or_else(String::new, |place| format!("; it was in {place}"));
        return Err(LuaError::argument(format!(
            "the function timed out after {}, so the faults were undone{place}",
            format_duration(limit)
        )));
    }
    outcome(lua, &task.0)
}

fn faults_of(bridge: &Bridge, table: &Table) -> std::result::Result<Faults, LuaError> {
    let others = ["from", "to", "partition", "groups", "isolate"];
    let options = Options::read(table, &[&others[..], &IMPAIRMENTS].concat())?;
    let partition = match options.value("partition") {
        None => None,
        Some(Value::Table(table)) => {
            let partition = partition_in(bridge, table);
            Some(partition.map_err(|error| error.within("option `partition`"))?)
        }
        Some(other) => {
            return Err(LuaError::argument(format!(
                "option `partition`: must be {{a, b}} or {{from = …, to = …}}, got {}",
                shown(other)
            )));
        }
    };
    let groups = options
        .value("groups")
        .map(|value| groups_of(bridge, value));
    let groups = groups
        .transpose()
        .map_err(|error| error.within("option `groups`"))?;
    let isolated = options
        .value("isolate")
        .map(|value| member_names(bridge, value));
    let isolated = isolated
        .transpose()
        .map_err(|error| error.within("option `isolate`"))?;
    let has_impairment = IMPAIRMENTS.iter().any(|key| options.has(key));
    if !has_impairment && partition.is_none() && groups.is_none() && isolated.is_none() {
        return Err(LuaError::argument(format!(
            "give at least one of {}, partition, groups, isolate",
            IMPAIRMENTS.join(", ")
        )));
    }
    if !has_impairment && (options.has("from") || options.has("to")) {
        let text = "`from` and `to` are for impairments; a partition has its own: partition = {from = …, to = …}";
        return Err(LuaError::argument(text));
    }
    Ok(Faults {
        paths: paths_of(bridge, &options)?,
        impairment: impairment_of(&options)?,
        partitions: partition.into_iter().collect(),
        groups: groups.unwrap_or_default(),
        isolated: isolated.unwrap_or_default(),
    })
}
