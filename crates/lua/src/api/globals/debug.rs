//! `debug.traceback` and `debug.getinfo`: the part of Lua's debug library that is harmless. The rest
//! could take the harness's own hooks away.

use crate::binding::class::function;
use crate::binding::raise::LuaError;
use mlua::debug::Debug;
use mlua::{Lua, Result, Table, Value};

/// Makes the table.
pub(crate) fn install(lua: &Lua) -> Result<()> {
    let table = lua.create_table()?;
    let traceback = lua.create_function(|lua, (message, level): (Value, Option<usize>)| {
        let text = match &message {
            Value::Nil => None,
            Value::String(text) => Some(text.to_string_lossy()),
            Value::Integer(_) | Value::Number(_) => Some(message.to_string()?),
            _ => return Ok(message),
        };
        let whole = lua
            .traceback(text.as_deref(), level.unwrap_or(1))?
            .to_string_lossy();
        let ours =
            |line: &&str| !(line.contains("[provium]:") || line.contains("__mlua_async_poll:"));
        let kept: Vec<&str> = whole.lines().filter(ours).collect();
        Ok(Value::String(lua.create_string(kept.join("\n"))?))
    })?;
    table.raw_set("traceback", traceback)?;
    let getinfo = function(lua, "debug.getinfo", |lua, args| {
        // The second argument, which selects fields, is ignored: the result has all of them.
        args.take_any();
        match args.value(0) {
            Value::Function(function) => {
                let info = function.info();
                let table = lua.create_table()?;
                table.raw_set("source", info.source)?;
                table.raw_set("short_src", info.short_src)?;
                table.raw_set("linedefined", info.line_defined)?;
                table.raw_set("lastlinedefined", info.last_line_defined)?;
                table.raw_set("what", info.what)?;
                table.raw_set("func", function)?;
                Ok(Some(table))
            }
            _ => {
                let level: usize = args.unsigned(0, "the level")?;
                // One level is the native function's, one its wrapper's.
                let info = lua.inspect_stack(level + 1, |debug| describe(lua, debug));
                info.transpose().map_err(LuaError::from)
            }
        }
    })?;
    table.raw_set("getinfo", getinfo)?;
    lua.globals().raw_set("debug", table)
}

fn describe(lua: &Lua, debug: &Debug<'_>) -> Result<Table> {
    let table = lua.create_table()?;
    let source = debug.source();
    table.raw_set("source", source.source.as_deref())?;
    table.raw_set("short_src", source.short_src.as_deref())?;
    table.raw_set("linedefined", source.line_defined)?;
    table.raw_set("lastlinedefined", source.last_line_defined)?;
    table.raw_set("what", source.what)?;
    table.raw_set("currentline", debug.current_line())?;
    table.raw_set("name", debug.names().name.as_deref())?;
    table.raw_set("func", debug.function())?;
    Ok(table)
}
