//! The part of the API that is written in Lua: what must see the author's stack, or calls back into
//! the author's code. Its chunks are named `=[provium]`, which keeps them out of tracebacks.

use mlua::{Function, LightUserData, Lua, Table};

/// Its address is the marker that a native function returns in order to have an error raised.
pub(crate) static RAISE: &[u8; 8] = b"provium!";
/// The text of the error that a skipped test raises.
pub(crate) const SKIP_TEXT: &str = "test skipped";

/// Name of the harness's own chunks.
const CHUNK: &str = "=[provium]";

/// The prelude's functions that Rust calls, or puts into classes.
#[derive(Clone)]
pub(crate) struct Prelude {
    calls: Table,
    /// `wrap(raw)`: the function an author calls for a native one.
    pub(crate) wrap: Function,
    /// The same for one that waits: `wrap_waiting(raw, call)`.
    pub(crate) wrap_waiting: Function,
    /// `guarded(fn, ...)`: runs `fn`; what it raises comes back as a failure.
    pub(crate) guarded: Function,
}

impl Prelude {
    /// Loads the prelude. `native` holds the functions it calls; they may be put there later.
    pub(crate) fn load(lua: &Lua, native: &Table) -> mlua::Result<Self> {
        let chunk = |source: &'static str| lua.load(source).set_name(CHUNK);
        let raise = LightUserData(RAISE.as_ptr().cast_mut().cast());
        let calls: Table =
            chunk(include_str!("prelude/calls.lua")).call((raise, skip(lua)?, native))?;
        chunk(include_str!("prelude/coroutines.lua")).call::<()>(Lua::poll_pending())?;
        for source in [
            include_str!("prelude/modules.lua"),
            include_str!("prelude/tasks.lua"),
            include_str!("prelude/testing.lua"),
            include_str!("prelude/finalisers.lua"),
        ] {
            chunk(source).call::<()>((&calls, native))?;
        }
        Ok(Self {
            wrap: calls.get("wrap")?,
            wrap_waiting: calls.get("wrap_waiting")?,
            guarded: calls.get("guarded")?,
            calls,
        })
    }

    /// Takes over functions of Lua's `string` and `table`; what that calls is already in `native`.
    pub(crate) fn take_over_strings(&self, lua: &Lua, native: &Table) -> mlua::Result<()> {
        let chunk = lua.load(include_str!("prelude/strings.lua"));
        chunk.set_name(CHUNK).call((&self.calls, native))
    }

    /// Takes over Lua's `io`, likewise.
    pub(crate) fn take_over_io(&self, lua: &Lua, native: &Table) -> mlua::Result<()> {
        let chunk = lua.load(include_str!("prelude/io.lua"));
        chunk.set_name(CHUNK).call((&self.calls, native))
    }

    /// A function of the prelude, by its name there.
    pub(crate) fn method(&self, name: &str) -> mlua::Result<Function> {
        self.calls.get(name)
    }
}

/// The value that `t:skip` raises; its identity is what counts.
fn skip(lua: &Lua) -> mlua::Result<Table> {
    let skip = lua.create_table()?;
    let meta = lua.create_table()?;
    meta.set("__tostring", lua.create_function(|_, ()| Ok(SKIP_TEXT))?)?;
    skip.set_metatable(Some(meta))?;
    Ok(skip)
}
