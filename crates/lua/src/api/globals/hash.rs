//! `hash.sha256`.

use crate::binding::class::function;
use mlua::{Lua, Result};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// Makes the table.
pub(crate) fn install(lua: &Lua) -> Result<()> {
    let table = lua.create_table()?;
    let sha256 = function(lua, "hash.sha256", |_, args| {
        let digest = Sha256::digest(args.bytes(0, "the bytes")?);
        let mut hex = String::with_capacity(64);
        for byte in digest {
            let _ = write!(hex, "{byte:02x}");
        }
        Ok(hex)
    })?;
    table.raw_set("sha256", sha256)?;
    lua.globals().raw_set("hash", table)
}
