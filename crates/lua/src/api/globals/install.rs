//! Puts the globals in place.

use super::{
    chance, codecs, debug, errno, hash, host, host_io, modules, process, strings, sysno, wait,
};
use mlua::{Lua, Result, Table};

/// Puts the globals in place, and what the prelude's part of them calls into `native`.
pub(crate) fn install(lua: &Lua, native: &Table) -> Result<()> {
    chance::install(lua)?;
    codecs::install(lua)?;
    debug::install(lua)?;
    errno::install(lua)?;
    sysno::install(lua)?;
    host::install(lua)?;
    hash::install(lua)?;
    process::install(lua)?;
    strings::install(lua, native)?;
    host_io::install(lua, native)?;
    modules::install(lua, native)?;
    wait::install(lua, native)
}
