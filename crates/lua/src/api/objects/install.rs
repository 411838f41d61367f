//! Makes the classes.

use super::{
    batch, clock, connection, console, disk, file, lab, network, pending, process, result,
    snapshot, stream, task, vm, worker,
};
use mlua::{Lua, Result, Table};

/// Makes the classes, and what the prelude's part of them calls.
pub(crate) fn install(lua: &Lua, native: &Table) -> Result<()> {
    task::install(lua, native)?;
    batch::install(lua, native)?;
    result::install(lua)?;
    stream::install(lua)?;
    connection::install(lua)?;
    file::install(lua)?;
    process::install(lua)?;
    pending::install(lua)?;
    console::install(lua)?;
    clock::install(lua)?;
    worker::install(lua)?;
    snapshot::install(lua)?;
    network::install(lua, native)?;
    disk::install(lua, native)?;
    vm::install(lua, native)?;
    lab::install(lua, native)
}
