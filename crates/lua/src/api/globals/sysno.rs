//! `sysno.openat`: syscall numbers of x86-64.

use crate::binding::class::function;
use crate::binding::raise::LuaError;
use crate::engine::syscall_table::{self, TABLE};
use mlua::{Lua, Result, Value};
use provium_lab::nearest::nearest;

/// The number of the syscall of that name; the error names the nearest one.
pub(crate) fn number(name: &str) -> std::result::Result<i64, LuaError> {
    syscall_table::number(name).ok_or_else(|| {
        let near = nearest(name, TABLE.iter().map(|(known, _)| *known));
        let hint = near
            .map(|near| format!("; did you mean `{near}`?"))
            .unwrap_or_default();
        LuaError::argument(format!("unknown syscall `{name}`{hint}"))
    })
}

/// Makes the table.
pub(crate) fn install(lua: &Lua) -> Result<()> {
    let table = lua.create_table_with_capacity(0, TABLE.len())?;
    for (name, number) in TABLE {
        table.raw_set(*name, *number)?;
    }
    let missing = function(lua, "sysno", |_, args| -> std::result::Result<Value, _> {
        number(&args.text(1, "the name")?).map(Value::Integer)
    })?;
    let meta = lua.create_table()?;
    meta.raw_set("__index", missing)?;
    table.set_metatable(Some(meta))?;
    lua.globals().raw_set("sysno", table)
}
