//! What a raw syscall returned, as a Lua table.

use mlua::{Lua, Result, Table};
use provium_lab::{SyscallResult, errno};

/// `{ret, result, errno, errname, out_bufs}`.
pub(super) fn table(lua: &Lua, result: &SyscallResult) -> Result<Table> {
    let table = head(lua, result)?;
    table.raw_set("out_bufs", bytes_list(lua, &result.buffers)?)?;
    Ok(table)
}

/// The same without the buffers.
pub(super) fn head(lua: &Lua, result: &SyscallResult) -> Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("ret", result.ret)?;
    table.raw_set("result", result.ret)?;
    table.raw_set("errno", result.errno)?;
    table.raw_set("errname", errno::name(result.errno))?;
    Ok(table)
}

/// The contents of buffers; nil for those that were not returned.
pub(super) fn bytes_list(lua: &Lua, buffers: &[Option<Vec<u8>>]) -> Result<Table> {
    let list = lua.create_table_with_capacity(buffers.len(), 0)?;
    for (index, bytes) in buffers.iter().enumerate() {
        if let Some(bytes) = bytes {
            list.raw_set(index + 1, lua.create_string(bytes)?)?;
        }
    }
    Ok(list)
}
