//! The Lua API: one file per object.
//!
//! A file runs on a thread of its own, with a Lua state of its own and a current-thread executor:
//! [`run_file`]. Its top level, each of its tests and each of its tasks is a coroutine that the
//! executor drives (`drive`); a call that waits is a future of its task (`task`), so ending the task
//! cancels it. What must see the author's stack, or calls back into the author's code, is written in
//! Lua (`prelude`).
//!
//! # Layers
//!
//! Each layer uses those above it in this table, and none below. What a layer keeps for a file, it keeps
//! itself ([`engine::file_data`]).
//!
//! | layer | what is in it |
//! |---|---|
//! | `text`, `pattern` | bytes as readable text; Lua's patterns |
//! | `engine` | coroutines: tasks, time limits, failures, the prelude, what belongs to a file |
//! | `binding` | Rust to Lua: arguments, options, values, classes, errors |
//! | `testing` | tests: declared, chosen, run, judged |
//! | `api` | what authors call: objects and globals |
//! | `file` | a file's Lua state, in which all of this is registered |
//! | `fixture` | the scripts of fixtures |
//! | `run` | a test file, run or listed |
//!
//! The only crate that knows the Lua machine. It prints nothing and decides no exit code.

mod api;
mod binding;
mod engine;
mod file;
mod fixture;
mod pattern;
mod run;
mod testing;
#[cfg(test)]
mod tests;
mod text;

pub use file::job::{ChunkError, DeclaredTest, FileJob, FileOutcome, TestListing};
pub use fixture::{StandaloneBuild, build_fixture};
pub use run::list_file::list_file;
pub use run::run_file::run_file;
pub use testing::TestSelection;
