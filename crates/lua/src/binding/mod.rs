//! How Rust functions and types become Lua's: classes, arguments, options, errors, the author's line.

pub(crate) mod args;
pub(crate) mod class;
pub(crate) mod data;
pub(crate) mod natives;
pub(crate) mod options;
pub(crate) mod preview;
pub(crate) mod raise;
pub(crate) mod signals;
pub(crate) mod stack;
pub(crate) mod values;
