//! The globals that need no guest: codecs, tables of numbers, the host's clock, hashes.

mod codecs;
mod debug;
mod errno;
mod hash;
mod host;
mod process;
mod sysno;
mod wait;

pub(crate) use sysno::number as syscall_number;

use mlua::{Lua, Result, Table};

/// Puts the globals in place, and what the prelude's part of them calls into `native`.
pub(crate) fn install(lua: &Lua, native: &Table) -> Result<()> {
    codecs::install(lua)?;
    debug::install(lua)?;
    errno::install(lua)?;
    sysno::install(lua)?;
    host::install(lua)?;
    hash::install(lua)?;
    process::install(lua)?;
    wait::install(lua, native)
}
