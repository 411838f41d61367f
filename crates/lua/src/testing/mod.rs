//! Tests: declared, chosen, run, judged.

mod assertions;
mod context;
mod diff;
mod kernel_logs;
mod meta;
mod registry;
mod reset;
mod run;
mod selection;
mod side_by_side;
mod verdict;

pub(crate) use assertions::ALWAYS_TRUE;
pub(crate) use context::register;
pub(crate) use diff::{plain, quoted};
pub(crate) use kernel_logs::Positions;
pub(crate) use meta::{Meta, retries_of};
pub(crate) use registry::{Declared, Registry, expect_file_scope, install};
pub(crate) use reset::FileBaseline;
pub(crate) use run::{close, end_tasks, run_test};
pub(crate) use selection::Choice;
pub use selection::TestSelection;
pub(crate) use side_by_side::run_side_by_side;
pub(crate) use verdict::{Expected, Status, Step, TestRun, Verdict};
