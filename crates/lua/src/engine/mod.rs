//! Runs a test file: its Lua state, the tasks in it, and their time limits.

pub(crate) mod blocked_syscalls;
pub(crate) mod deadline;
pub(crate) mod drive;
pub(crate) mod dry_run;
pub(crate) mod failed_commands;
pub(crate) mod failure;
pub(crate) mod hook;
pub(crate) mod job;
pub(crate) mod list_file;
pub(crate) mod log;
pub(crate) mod lua_state;
pub(crate) mod run_file;
pub(crate) mod task;
pub(crate) mod test_file;
