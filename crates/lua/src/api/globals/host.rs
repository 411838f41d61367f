//! `host.now_ns` and `host.sleep`: the host's clock, for scripts.

use crate::binding::class::{async_function, function};
use mlua::{Lua, Result};
use std::time::{SystemTime, UNIX_EPOCH};

/// Makes the table.
pub(crate) fn install(lua: &Lua) -> Result<()> {
    let table = lua.create_table()?;
    let now = function(lua, "host.now_ns", |_, _| {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Ok(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    })?;
    table.raw_set("now_ns", now)?;
    let sleep = async_function(lua, "host.sleep", false, |_, args| async move {
        tokio::time::sleep(args.duration(0, "the duration")?).await;
        Ok(())
    })?;
    table.raw_set("sleep", sleep)?;
    lua.globals().raw_set("host", table)
}
