//! The same resource is the same Lua value, as long as Lua has it in hand.

use crate::binding::class::{Object, object, object_in};
use crate::binding::stack;
use crate::engine::task::Task;
use crate::engine::test_file::TestFileState;
use mlua::{Lua, Result, Table, Value};
use provium_lab::{ResourceId, Scope, Site};
use std::time::Duration;

/// Values of resources that Lua has in hand, by resource.
struct ResourceValues(Table);

impl ResourceValues {
    fn of(lua: &Lua) -> Result<Table> {
        let known = lua.app_data_ref::<Self>().map(|values| values.0.clone());
        if let Some(values) = known {
            return Ok(values);
        }
        let values = lua.create_table()?;
        let weak = lua.create_table()?;
        weak.raw_set("__mode", "v")?;
        values.set_metatable(Some(weak))?;
        lua.set_app_data(Self(values.clone()));
        Ok(values)
    }
}

/// The Lua value of the resource `id`. One resource may have values of several classes (a VM has a
/// console and a clock).
pub(super) fn of<T: Object>(lua: &Lua, id: ResourceId, make: impl FnOnce() -> T) -> Result<Value> {
    of_key(lua, &id.to_string(), make)
}

/// The same, with a new value if the known one is not open any more.
pub(super) fn of_open<T: Object>(
    lua: &Lua,
    id: ResourceId,
    is_open: impl FnOnce(&T) -> bool,
    make: impl FnOnce() -> T,
) -> Result<Value> {
    let values = ResourceValues::of(lua)?;
    let key = format!("{} {id}", T::CLASS);
    let known = values.raw_get::<Value>(key.as_str())?;
    match as_object::<T>(&known) {
        Some(object) if is_open(&object) => Ok(known),
        _ => {
            let value = object(lua, make())?;
            values.raw_set(key, &value)?;
            Ok(value)
        }
    }
}

/// The same for what has no number of its own, such as the NIC of a VM on a bridge.
pub(super) fn of_key<T: Object>(lua: &Lua, key: &str, make: impl FnOnce() -> T) -> Result<Value> {
    let values = ResourceValues::of(lua)?;
    let key = format!("{} {key}", T::CLASS);
    match values.raw_get::<Value>(key.as_str())? {
        Value::Nil => {
            let value = object(lua, make())?;
            values.raw_set(key, &value)?;
            Ok(value)
        }
        value => Ok(value),
    }
}

/// The result of `tostring` for a handle that can be closed.
pub(super) fn describe_handle(subject: String, is_closed: bool) -> String {
    if is_closed {
        format!("{subject} (closed)")
    } else {
        subject
    }
}

/// The scope that what is made now belongs to, and the author's line that makes it.
pub(super) fn call_site(lua: &Lua) -> (Scope, Site) {
    let state = TestFileState::of(lua);
    let site = stack::place(lua).unwrap_or_else(|| Site {
        file: state.display.clone(),
        line: 1,
    });
    (state.current_scope(), site)
}

/// How much time the test, or the file, has left; `None` where it has no limit.
pub(super) fn time_left(lua: &Lua) -> Option<Duration> {
    match Task::current() {
        Some(task) => task.deadline.left(),
        None => TestFileState::of(lua).deadline.left(),
    }
}

/// The object of class `T` in a Lua value.
pub(super) fn as_object<T: Object>(value: &Value) -> Option<T> {
    match value {
        Value::UserData(userdata) => object_in(userdata),
        _ => None,
    }
}
