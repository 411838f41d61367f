//! What a call of the API raises: a message for the test's author.
//!
//! The message says object, call and cause. Where it happened is put in front by the prelude, which
//! sees the Lua stack (`prelude/calls.lua`).

use crate::engine::memory::out_of_memory;
use provium_lab::LabError;

/// Why a call raises.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum LuaError {
    /// Invalid arguments. The name of the call is added by [`LuaError::text`].
    #[error("{0}")]
    Argument(String),
    /// The whole message, object and call included.
    #[error("{0}")]
    Message(String),
    /// An assertion of a test that does not hold; stays in force through `pcall`.
    #[error("{0}")]
    Assertion(String),
    /// The test is to be skipped.
    #[error("test skipped")]
    Skip,
    /// The lab says no.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The Lua machine itself: out of memory, or a value that is not what it must be.
    #[error("{0}")]
    Lua(#[from] mlua::Error),
}

impl LuaError {
    /// Arguments that make no sense.
    pub(crate) fn argument(why: impl Into<String>) -> Self {
        Self::Argument(why.into())
    }

    /// The same for a part of the arguments, which the message then names.
    pub(crate) fn within(self, part: &str) -> Self {
        match self {
            Self::Argument(why) => Self::Argument(format!("{part}: {why}")),
            other => other,
        }
    }

    /// A whole message.
    pub(crate) fn message(text: impl Into<String>) -> Self {
        Self::Message(text.into())
    }

    /// The text for the author. `subject` and `call` are put before what does not name them yet.
    pub(crate) fn text(&self, subject: &str, call: &str) -> String {
        match self {
            Self::Argument(why) if subject.is_empty() => format!("{call}: {why}"),
            Self::Argument(why) => format!("{subject}: {call}(): {why}"),
            Self::Lua(mlua::Error::MemoryError(_)) => out_of_memory(),
            other => other.to_string(),
        }
    }
}
