//! What the prelude calls in order to raise and to take failures.

use crate::binding::stack;
use crate::engine::failure::Failure;
use crate::engine::frames::{Frame, frames, save_frames};
use crate::engine::task::Task;
use crate::text;
use mlua::{Lua, LuaString, Result, Table};

/// Adds the native functions.
pub(crate) fn register(lua: &Lua, native: &Table) -> Result<()> {
    native.raw_set("frames", lua.create_function(|lua, ()| save_frames(lua))?)?;
    let expired = |_: &Lua, ()| Ok(Task::current().is_some_and(|task| task.was_interrupted()));
    native.raw_set("expired", lua.create_function(expired)?)?;
    let located = lua.create_function(|lua, (text, kind): (LuaString, Option<String>)| {
        let mut located = match stack::place(lua) {
            Some(site) => format!("{site}: ").into_bytes(),
            None => Vec::new(),
        };
        located.extend_from_slice(&text.as_bytes());
        if kind.as_deref() == Some("assertion") {
            note_assertion(&text::display(&located), frames(lua));
        }
        lua.create_string(located)
    })?;
    native.raw_set("located", located)?;
    // Called by way of `pcall`, a function of Lua's own does not know its name.
    let named = |_: &Lua, (why, name): (LuaString, String)| {
        Ok(text::display(&why.as_bytes()).replacen("to '?'", &format!("to '{name}'"), 1))
    };
    native.raw_set("named", lua.create_function(named)?)
}

/// A failed assertion counts for the test whose code runs, also if the error is caught.
fn note_assertion(message: &str, frames: Vec<Frame>) {
    if let Some(task) = Task::current() {
        let mut failure = Failure::new(message);
        failure.frames = frames;
        let mut first = task.group.failed_assertion.borrow_mut();
        first.get_or_insert(failure);
    }
}
