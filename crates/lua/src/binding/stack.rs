//! The author's line that makes a call.

use crate::engine::frames::innermost;
use crate::engine::task::Task;
use mlua::Lua;
use provium_lab::Site;

/// The line of the author's innermost frame, or, without one, where the running task began.
pub(crate) fn place(lua: &Lua) -> Option<Site> {
    innermost(lua).or_else(|| Task::current().and_then(|task| task.home.clone()))
}
