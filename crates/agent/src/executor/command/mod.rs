//! The processes whose pipes the main thread feeds and empties: commands, and operations that move bytes.

#[expect(clippy::module_inception, reason = "the type of that name")]
mod command;
mod input;
mod output;

pub(super) use command::{Command, Role};
