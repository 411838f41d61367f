//! `errno.ENOENT` and `errno.name(2)`.

use crate::binding::class::function;
use crate::binding::options::unknown;
use crate::binding::raise::LuaError;
use mlua::{Lua, Result, Value};
use provium_lab::errno;

/// Makes the table.
pub(crate) fn install(lua: &Lua) -> Result<()> {
    let table = lua.create_table()?;
    for (name, number) in errno::all() {
        table.raw_set(name, number)?;
    }
    let name = function(lua, "errno.name", |_, args| {
        let number = args.integer(0, "the number")?;
        Ok(i32::try_from(number).ok().and_then(errno::name))
    })?;
    table.raw_set("name", name)?;
    let missing = function(lua, "errno", |_, args| -> std::result::Result<Value, _> {
        let key = args.text(1, "the name")?;
        Err(LuaError::argument(unknown(
            "errno name",
            &key,
            errno::all().map(|(name, _)| name).collect::<Vec<_>>(),
        )))
    })?;
    let meta = lua.create_table()?;
    meta.raw_set("__index", missing)?;
    table.set_metatable(Some(meta))?;
    lua.globals().raw_set("errno", table)
}
