//! The Lua API: one file per object.
//!
//! A file runs on a thread of its own, with a Lua state of its own and a current-thread executor:
//! [`run_file`]. Its top level, each of its tests and each of its tasks is a coroutine that the
//! executor drives (`drive`); a call that waits is a future of its task (`task`), so ending the task
//! cancels it. What must see the author's stack, or calls back into the author's code, is written in
//! Lua (`prelude`).
//!
//! The only crate that knows the Lua machine. It prints nothing and decides no exit code.

mod args;
mod cancel;
mod class;
mod consoles;
mod data;
mod deadline;
mod drive;
mod failure;
mod file;
mod fixture;
mod globals;
mod held_up;
mod hook;
mod job;
mod list;
mod listing;
mod log;
mod machine;
mod objects;
mod options;
mod pattern;
mod prelude;
mod preview;
mod raise;
mod report;
mod run;
mod stack;
mod task;
mod testing;
#[cfg(test)]
mod tests;
mod text;
mod units;

pub use cancel::CancelToken;
pub use file::base_of;
pub use fixture::{BuiltAlone, build_fixture};
pub use job::{ChunkError, DeclaredTest, FileJob, FileOutcome, FileStatus, Listing};
pub use list::list_file;
pub use run::run_file;
pub use testing::TestSelection;
