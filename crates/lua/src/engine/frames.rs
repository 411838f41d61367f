//! The author's part of the Lua stack.
//!
//! An author's chunk is named `@path`; the harness's own and those of the Lua machine are not.

use mlua::{AnyUserData, Lua, Result};
use provium_lab::Site;

/// Most frames that are kept of a stack.
const MAX_FRAMES: usize = 64;
/// Deepest level that is looked at; a runaway recursion is deeper.
const MAX_LEVEL: usize = 400;

/// A frame of the author's code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// File, relative to its root, and line.
    pub(crate) site: Site,
    /// The function's name, where Lua knows one.
    pub(crate) name: Option<String>,
}

/// The author's frames of the running coroutine, innermost first.
pub(crate) fn frames(lua: &Lua) -> Vec<Frame> {
    let mut frames = Vec::new();
    for level in 0..MAX_LEVEL {
        let Some(frame) = lua.inspect_stack(level, read) else {
            break;
        };
        frames.extend(frame);
        if frames.len() == MAX_FRAMES {
            break;
        }
    }
    frames
}

/// The line of the author's innermost frame.
pub(crate) fn innermost(lua: &Lua) -> Option<Site> {
    for level in 0..MAX_LEVEL {
        match lua.inspect_stack(level, read)? {
            Some(frame) => return Some(frame.site),
            None => {}
        }
    }
    None
}

/// The frames that native code of the prelude took with [`save_frames`].
pub(crate) fn saved_frames(frames: &AnyUserData) -> Result<Vec<Frame>> {
    Ok(frames.borrow::<SavedFrames>()?.0.clone())
}

/// The frames as a Lua value.
pub(crate) fn save_frames(lua: &Lua) -> Result<AnyUserData> {
    lua.create_any_userdata(SavedFrames(frames(lua)))
}

struct SavedFrames(Vec<Frame>);

fn read(debug: &mlua::debug::Debug<'_>) -> Option<Frame> {
    let source = debug.source();
    let file = source.source.as_deref()?.strip_prefix('@')?.to_owned();
    let line = u32::try_from(debug.current_line()?).ok()?;
    let name = debug.names().name.map(|name| name.into_owned());
    Some(Frame {
        site: Site { file, line },
        name: name.filter(|_| source.what != "main"),
    })
}
