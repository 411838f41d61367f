//! The objects that authors handle, one file each.

mod task;

use mlua::{Lua, Result, Table};

/// Makes the classes, and what the prelude's part of them calls.
pub(crate) fn install(lua: &Lua, native: &Table) -> Result<()> {
    task::install(lua, native)
}
