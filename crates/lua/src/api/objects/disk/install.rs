//! Makes the classes of disks.

use super::{crash_states, object};
use mlua::{Lua, Result, Table};

/// Makes the classes, and what the prelude's part of them calls.
pub(in crate::api::objects) fn install(lua: &Lua, native: &Table) -> Result<()> {
    crash_states::install(lua, native)?;
    object::install(lua)
}
