//! What a file sets for all its tests: `provium.timeout = "30s"`.

use crate::binding::options::unknown;
use crate::binding::preview::shown;
use crate::binding::raise::LuaError;
use crate::binding::values::duration_of;
use crate::engine::file_data::file_data;
use crate::testing::{Settings, expect_file_scope, retries_of};
use mlua::{IntoLua, Lua, Result, Value};

const KNOWN: &[&str] = &["timeout", "retries", "reset_between_tests", "parallel"];

/// Carries out `provium.key = value`.
pub(super) fn assign(lua: &Lua, key: &str, value: &Value) -> std::result::Result<(), LuaError> {
    if !KNOWN.contains(&key) {
        let text = unknown("setting", key, KNOWN.iter().copied());
        return Err(LuaError::message(format!("provium.{key}: {text}")));
    }
    // A test may set the time limit of those that come after it.
    if key != "timeout" {
        expect_file_scope(lua, &format!("provium.{key} = …"))?;
    }
    let bad = |why: String| LuaError::message(format!("provium.{key}: {why}"));
    let settings = file_data::<Settings>(lua);
    match key {
        "timeout" => settings.timeout.set(Some(duration_of(value).map_err(bad)?)),
        "reset_between_tests" => settings
            .reset_between_tests
            .set(boolean(value).map_err(bad)?),
        "parallel" => settings.parallel.set(boolean(value).map_err(bad)?),
        _ => settings.retries.set(Some(retries_of(value).map_err(bad)?)),
    }
    Ok(())
}

fn boolean(value: &Value) -> std::result::Result<bool, String> {
    match value {
        Value::Boolean(value) => Ok(*value),
        other => Err(format!("must be true or false, got {}", shown(other))),
    }
}

/// The value of a setting; nil for an unknown name.
pub(super) fn read(lua: &Lua, key: &str) -> Result<Value> {
    let settings = file_data::<Settings>(lua);
    match key {
        "timeout" => settings
            .timeout
            .get()
            .map(|timeout| timeout.as_secs_f64())
            .into_lua(lua),
        "retries" => settings.retries.get().into_lua(lua),
        "reset_between_tests" => settings.reset_between_tests.get().into_lua(lua),
        "parallel" => settings.parallel.get().into_lua(lua),
        _ => Ok(Value::Nil),
    }
}
