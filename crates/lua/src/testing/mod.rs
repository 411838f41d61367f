//! Tests: declared, chosen, run, judged.

mod assertions;
pub(crate) mod consoles;
mod context;
mod diff;
mod kernel_logs;
mod meta;
mod parallel;
mod registry;
pub(crate) mod report;
mod reset;
mod run_test;
mod selection;

mod verdict;

pub(crate) use assertions::{ALWAYS_TRUE, command_asserted};
pub(crate) use context::register;
pub(crate) use diff::{plain, quoted};
pub(crate) use kernel_logs::LogCursors;
pub(crate) use meta::{Meta, retries_of};
pub(crate) use parallel::run_parallel;
pub(crate) use provium_events::TestStatus;
pub(crate) use registry::{Registry, TestDeclaration, expect_file_scope, install};
pub(crate) use reset::FileBaseline;
pub(crate) use run_test::{close, end_tasks, run_test};
pub(crate) use selection::Choice;
pub use selection::TestSelection;
pub(crate) use verdict::{Expected, Step, TestRun, Verdict};
