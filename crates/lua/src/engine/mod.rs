//! Runs Lua code: tasks, their time limits, and what goes wrong in them.
//!
//! It knows neither the objects of the API nor tests: only that tasks belong to a group, which ends them.

pub(crate) mod blocked_syscalls;
pub(crate) mod children;
pub(crate) mod cut;
pub(crate) mod deadline;
pub(crate) mod drive;
pub(crate) mod dry_run;
pub(crate) mod failed_commands;
pub(crate) mod failure;
pub(crate) mod file_data;
pub(crate) mod frames;
pub(crate) mod hook;
pub(crate) mod log;
pub(crate) mod memory;
pub(crate) mod pending_call;
pub(crate) mod prelude;
pub(crate) mod run_status;
pub(crate) mod started_processes;
pub(crate) mod syscall_table;
pub(crate) mod task;
pub(crate) mod test_file;
