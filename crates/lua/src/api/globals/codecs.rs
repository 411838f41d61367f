//! `json` and `msgpack`.

use crate::binding::class::function;
use crate::binding::data::{Form, Marks, from_lua, to_lua};
use crate::binding::raise::LuaError;
use mlua::{LightUserData, Lua, Result, Value};
use provium_events::Value as Data;

/// Its address is `json.null`.
static NULL: &[u8; 4] = b"null";

/// Makes both tables.
pub(crate) fn install(lua: &Lua) -> Result<()> {
    let marks = Marks {
        null: Value::LightUserData(LightUserData(NULL.as_ptr().cast_mut().cast())),
        list: lua.create_table()?,
    };
    marks.list.raw_set("__name", "json.array")?;

    let json = lua.create_table()?;
    json.raw_set("null", &marks.null)?;
    let list = marks.list.clone();
    json.raw_set(
        "array",
        function(lua, "json.array", move |_, args| {
            let table = args.table(0, "the list")?;
            table.set_metatable(Some(list.clone()))?;
            Ok(table)
        })?,
    )?;
    let own = marks.clone();
    json.raw_set(
        "encode",
        function(lua, "json.encode", move |lua, args| {
            let data = from_lua(lua, &args.value(0), Form::Json, Some(&own))
                .map_err(LuaError::argument)?;
            let text =
                serde_json::to_vec(&data).map_err(|error| LuaError::argument(error.to_string()))?;
            Ok(lua.create_string(text)?)
        })?,
    )?;
    let own = marks.clone();
    json.raw_set(
        "decode",
        function(lua, "json.decode", move |lua, args| {
            let text = args.bytes(0, "the text")?;
            let options = args.options(1, &["null"])?;
            let data: Data = serde_json::from_slice(&text).map_err(|error| json_error(&error))?;
            Ok(to_lua(&data, lua, Some(&own), options.value("null"))?)
        })?,
    )?;
    lua.globals().raw_set("json", json)?;

    let msgpack = lua.create_table()?;
    let own = marks.clone();
    msgpack.raw_set(
        "encode",
        function(lua, "msgpack.encode", move |lua, args| {
            let data = from_lua(lua, &args.value(0), Form::Free, Some(&own))
                .map_err(LuaError::argument)?;
            let bytes =
                rmp_serde::to_vec(&data).map_err(|error| LuaError::argument(error.to_string()))?;
            Ok(lua.create_string(bytes)?)
        })?,
    )?;
    msgpack.raw_set(
        "decode",
        function(lua, "msgpack.decode", move |lua, args| {
            let bytes = args.bytes(0, "the bytes")?;
            let mut rest = bytes.as_slice();
            let data: Data = rmp_serde::from_read(&mut rest)
                .map_err(|error| LuaError::argument(error.to_string()))?;
            if !rest.is_empty() {
                let text = format!("{} bytes follow the value", rest.len());
                return Err(LuaError::argument(text));
            }
            Ok(to_lua(&data, lua, Some(&marks), None)?)
        })?,
    )?;
    lua.globals().raw_set("msgpack", msgpack)
}

/// The library's text ends in the position already: `expected value at line 1 column 2`.
fn json_error(error: &serde_json::Error) -> LuaError {
    LuaError::argument(error.to_string())
}
