//! The author's part of the Lua stack.
//!
//! An author's chunk is named `@path`; the harness's own and those of the Lua machine are not.

use mlua::{AnyUserData, Lua, Result};
use provium_lab::Site;

/// Most frames that are kept of the inner part of a stack.
const MAX_FRAMES: usize = 64;
/// Levels of the inner part that are looked at; a runaway recursion has many more.
const MAX_LEVEL: usize = 400;
/// Levels of the outer part, which is where the recursion was begun.
const OUTER_LEVELS: usize = 8;

/// A frame of the author's code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// File, relative to its root, and line.
    pub(crate) site: Site,
    /// The function's name, where Lua knows one.
    pub(crate) name: Option<String>,
    /// How many levels between this frame and the one before are left out.
    pub(crate) skipped: usize,
}

impl Frame {
    /// A frame about which no more is known.
    pub(crate) fn at(site: Site) -> Self {
        Self {
            site,
            name: None,
            skipped: 0,
        }
    }

    fn text(&self) -> String {
        match &self.name {
            Some(name) => format!("{}: in {name}", self.site),
            None => self.site.to_string(),
        }
    }
}

/// Frames as a traceback, one line each. Those of a recursion are folded.
pub(crate) fn traceback(frames: &[Frame]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut rest = frames;
    while let Some(frame) = rest.first() {
        if frame.skipped > 0 {
            lines.push(format!("… {} levels are left out", frame.skipped));
        }
        let text = frame.text();
        let is_same = |other: &&Frame| other.skipped == 0 && other.text() == text;
        let same = rest.iter().skip(1).take_while(is_same).count();
        lines.push(text);
        match same {
            0 => {}
            1 => lines.push("… the same line again".to_owned()),
            same => lines.push(format!("… the same {same} times more")),
        }
        rest = &rest[same + 1..];
    }
    lines
}

/// The author's frames of the running coroutine, innermost first. The middle of a deep stack is left out.
pub(crate) fn frames(lua: &Lua) -> Vec<Frame> {
    let mut frames = Vec::new();
    for level in 0..MAX_LEVEL {
        let Some(frame) = lua.inspect_stack(level, read) else {
            return frames;
        };
        frames.extend(frame);
        if frames.len() == MAX_FRAMES {
            append_outer(lua, level + 1, &mut frames);
            return frames;
        }
    }
    append_outer(lua, MAX_LEVEL, &mut frames);
    frames
}

/// Appends the outermost frames of a stack of which the levels below `next` have been read.
fn append_outer(lua: &Lua, next: usize, frames: &mut Vec<Frame>) {
    let exists = |level| lua.inspect_stack(level, |_| ()).is_some();
    // The depth of a stack is not known to Lua.
    let (mut depth, mut beyond) = (next, next.max(1));
    while exists(beyond) {
        depth = beyond + 1;
        beyond *= 2;
    }
    while depth < beyond {
        let middle = depth.midpoint(beyond);
        if exists(middle) {
            depth = middle + 1;
        } else {
            beyond = middle;
        }
    }
    let from = depth.saturating_sub(OUTER_LEVELS).max(next);
    let outer = (from..depth).filter_map(|level| lua.inspect_stack(level, read).flatten());
    let mut outer: Vec<Frame> = outer.collect();
    if let Some(first) = outer.first_mut() {
        first.skipped = from - next;
    }
    frames.append(&mut outer);
}

/// The line of the author's innermost frame.
pub(crate) fn innermost(lua: &Lua) -> Option<Site> {
    for level in 0..MAX_LEVEL {
        if let Some(frame) = lua.inspect_stack(level, read)? {
            return Some(frame.site);
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
        skipped: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recursion_is_folded() {
        let frame = |line, skipped| Frame {
            skipped,
            ..Frame::at(Site {
                file: "a".to_owned(),
                line,
            })
        };
        let mut frames = vec![frame(1, 0), frame(2, 0), frame(2, 0), frame(2, 0)];
        frames.extend([frame(2, 900), frame(2, 0), frame(9, 0)]);
        let lines = traceback(&frames);
        let same = "… the same 2 times more";
        let left_out = "… 900 levels are left out";
        let once = "… the same line again";
        assert_eq!(lines, ["a:1", "a:2", same, left_out, "a:2", once, "a:9"]);
    }
}
