//! What went wrong in Lua code, and where: the message and the author's frames.

use crate::engine::frames::{Frame, saved_frames, traceback};
use crate::text;
use mlua::{Lua, Table, Value};
use provium_lab::Site;
use provium_lab::nearest::nearest;
use std::collections::BTreeSet;

/// An error that ended a test, a task or a file.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// The error as text.
    pub(crate) message: String,
    /// The author's frames, innermost first.
    pub(crate) frames: Vec<Frame>,
    /// The value that was raised.
    pub(crate) value: Value,
    /// Whether it was `t:skip`.
    pub(crate) skip: bool,
}

impl Failure {
    /// A failure without a Lua error behind it.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            frames: Vec::new(),
            value: Value::Nil,
            skip: false,
        }
    }

    /// The failure that the prelude's `guarded` returned.
    pub(crate) fn from_table(table: &Table) -> mlua::Result<Self> {
        Ok(Self {
            message: text::display(&table.get::<mlua::LuaString>("message")?.as_bytes()),
            frames: saved_frames(&table.get("frames")?)?,
            value: table.get("value")?,
            skip: table.get("skip")?,
        })
    }

    /// An error that was caught and raised again (`error(e, 0)`) has the frames of where that was done.
    /// Where its text begins with the place of one of the author's lines, that place comes first.
    pub(crate) fn begin_where_it_says(&mut self, sources: &BTreeSet<String>) {
        let Some(site) = self.place_in_text(sources) else {
            return;
        };
        let at = self.frames.iter().position(|frame| frame.site == site);
        match at {
            // What is before it are functions that only raise, such as a helper's own assertion.
            Some(_) => {}
            None => self.frames.insert(0, Frame::at(site)),
        }
    }

    fn place_in_text(&self, sources: &BTreeSet<String>) -> Option<Site> {
        let (file, rest) = self.message.split_once(':')?;
        let line = rest.split(':').next()?.parse().ok()?;
        let file = match file.strip_prefix("...") {
            // Lua cuts long names.
            Some(end) => sources.iter().find(|source| source.ends_with(end))?,
            None => sources.get(file)?,
        };
        Some(Site {
            file: file.clone(),
            line,
        })
    }

    /// Lua says that a global does not exist: then the message names the one whose name is nearest.
    pub(crate) fn suggest_global(&mut self, lua: &Lua) {
        const MISSING: &str = "a nil value (global '";
        let Some((_, rest)) = self.message.split_once(MISSING) else {
            return;
        };
        let Some((name, rest)) = rest.split_once("')") else {
            return;
        };
        if rest.contains("did you mean") {
            return;
        }
        let globals = lua.globals();
        let keys = globals.pairs::<Value, Value>();
        let known = keys.filter_map(|pair| match pair.ok()?.0 {
            Value::String(key) => Some(key.to_string_lossy()),
            _ => None,
        });
        let mut known: Vec<String> = known.collect();
        known.sort();
        if let Some(near) = nearest(name, known.iter().map(String::as_str)) {
            self.message.push_str(&format!("; did you mean `{near}`?"));
        }
    }

    /// Where it was raised.
    pub(crate) fn site(&self) -> Option<&Site> {
        self.frames.first().map(|frame| &frame.site)
    }

    /// The frames as a traceback, one line each; empty where there are none.
    pub(crate) fn traceback(&self) -> Vec<String> {
        traceback(&self.frames)
    }
}

impl From<mlua::Error> for Failure {
    fn from(error: mlua::Error) -> Self {
        let text = match &error {
            mlua::Error::SyntaxError { message, .. } | mlua::Error::RuntimeError(message) => {
                message.clone()
            }
            other => other.to_string(),
        };
        Self::new(text)
    }
}
