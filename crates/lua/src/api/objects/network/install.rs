//! Makes the classes of bridges and of what is attached to them.

use super::{bridge, capture, nic, port};
use mlua::{Lua, Result, Table};

/// Makes the classes, and what the prelude's part of them calls.
pub(in crate::api::objects) fn install(lua: &Lua, native: &Table) -> Result<()> {
    capture::install(lua)?;
    nic::install(lua)?;
    port::install(lua, native)?;
    bridge::install(lua, native)
}
