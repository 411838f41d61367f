//! Makes the classes.

use super::{
    batch, bridge, capture, clock, connection, console, crash_states, disk, file, lab, nic,
    pending, port, process, result, snapshot, stream, task, vm, worker,
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
    capture::install(lua)?;
    nic::install(lua)?;
    port::install(lua, native)?;
    bridge::install(lua, native)?;
    crash_states::install(lua, native)?;
    disk::install(lua)?;
    vm::install(lua, native)?;
    lab::install(lua, native)
}
