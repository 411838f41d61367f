//! Tests: declared, chosen, run, judged.

mod assertions;
mod consoles;
mod context;
mod diff;
mod ending;
mod keep;
mod kernel_logs;
mod kernel_trace;
mod meta;
mod parallel;
mod parallel_slots;
mod prepared;
mod registry;
pub(crate) mod report;
mod reset;
mod run_test;
mod selection;
mod settings;
mod shuffle;
mod test_run;
mod text_diff;
mod verdict;

pub(crate) use assertions::COMMAND_RESULT;
pub(crate) use context::register;
pub(crate) use diff::plain;
pub(crate) use ending::{close, end_tasks};
pub(crate) use meta::{Meta, retries_of};
pub(crate) use parallel::run_parallel;
pub(crate) use provium_events::TestStatus;
pub(crate) use registry::{Registry, TestDeclaration, expect_file_scope, install};
pub(crate) use run_test::run_test;
pub(crate) use selection::Choice;
pub use selection::TestSelection;
pub(crate) use settings::Settings;
pub(crate) use shuffle::shuffle;
pub(crate) use verdict::{Expected, Verdict};
