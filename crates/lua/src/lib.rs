//! The Lua API: one file per object.
//!
//! A file runs on a thread of its own, with a Lua state of its own and a current-thread executor:
//! [`run_file`]. Its top level, each of its tests and each of its tasks is a coroutine that the
//! executor drives (`drive`); a call that waits is a future of its task (`task`), so ending the task
//! cancels it. What must see the author's stack, or calls back into the author's code, is written in
//! Lua (`prelude`).
//!
//! The only crate that knows the Lua machine. It prints nothing and decides no exit code.

mod api;
mod binding;
mod engine;
mod fixture;
mod pattern;
mod testing;
#[cfg(test)]
mod tests;

pub use engine::job::{ChunkError, DeclaredTest, FileJob, FileOutcome, Listing};
pub use engine::list_file::list_file;
pub use engine::run_file::run_file;
pub use fixture::{StandaloneBuild, build_fixture};
pub use testing::TestSelection;
