//! What `require` and `dofile` of the prelude call: the source of a chunk, and waits for another task's load.

use super::dependency_tracking::{record_read, record_search};
use crate::binding::class::{async_function, raw_function};
use crate::binding::raise::LuaError;
use crate::engine::test_file::TestFileState;
use camino::Utf8Path;
use mlua::{AnyUserData, IntoLuaMulti as _, Lua, Result, Table, Value};
use std::rc::Rc;
use tokio::sync::Notify;

/// Adds the native functions.
pub(super) fn install(lua: &Lua, native: &Table) -> Result<()> {
    native.raw_set(
        "read_source",
        raw_function(lua, "require", |lua, args| {
            let path = args.text(0, "the path")?;
            let path = Utf8Path::new(&path);
            record_read(lua, path);
            match read_source(path) {
                Ok(source) => {
                    let state = TestFileState::of(lua);
                    let display = state.display_path(path);
                    let name = format!("@{display}");
                    state.sources.borrow_mut().insert(display);
                    Ok((lua.create_string(source)?, name).into_lua_multi(lua)?)
                }
                Err(error) => Err(LuaError::argument(error.to_string())),
            }
        })?,
    )?;
    let searched = raw_function(lua, "require", |lua, args| {
        let (name, found) = (args.text(0, "the name")?, args.opt_text(1, "the path")?);
        Ok(record_search(lua, &name, found.as_deref())?)
    })?;
    native.raw_set("searched", searched)?;
    add_module_loads(lua, native)
}

/// The load of a module by `require`. Tasks that require the module meanwhile wait for its end.
struct ModuleLoad(Rc<Notify>);

fn add_module_loads(lua: &Lua, native: &Table) -> Result<()> {
    let new = lua.create_function(|lua, ()| lua.create_any_userdata(ModuleLoad(Rc::default())))?;
    native.raw_set("new_load", new)?;
    let end = lua.create_function(|_, load: AnyUserData| {
        load.borrow::<ModuleLoad>()?.0.notify_waiters();
        Ok(())
    })?;
    native.raw_set("end_load", end)?;
    let wait = async_function(lua, "require", true, |_, args| {
        let load = match args.value(1) {
            Value::UserData(load) => load.borrow::<ModuleLoad>().map(|load| Rc::clone(&load.0)),
            _ => Ok(Rc::default()),
        };
        async move {
            load?.notified().await;
            Ok(())
        }
    })?;
    native.raw_set("await_load", wait)
}

/// A chunk's source. A first line that begins with `#` is blanked, as Lua does for scripts.
pub(crate) fn read_source(path: &Utf8Path) -> std::io::Result<Vec<u8>> {
    // Reading a pipe or a terminal could take for ever.
    if !fs_err::metadata(path)?.is_file() {
        let text = format!("`{path}` is not a regular file");
        return Err(std::io::Error::other(text));
    }
    let mut source = fs_err::read(path)?;
    if let Some(rest) = source.strip_prefix(b"\xef\xbb\xbf") {
        source = rest.to_vec();
    }
    if source.starts_with(b"#") {
        let end = source
            .iter()
            .position(|byte| *byte == b'\n')
            .unwrap_or(source.len());
        source.drain(..end);
    }
    Ok(source)
}
