//! From paths to a finished run: which files, in which order, with how much of the host.
//!
//! ```text
//! paths ─ discover ─▶ files ─ queue ─ dispatch ─▶ a thread a file ─▶ `RunFile`  
//!                               ▲         ▲              │ boots, claims
//!                            history      └──── pool ◀───┘
//! ```
//!
//! [`discover`](discover()) finds test files; [`run`] runs them, each on a thread of its own, within
//! a [`Pool`](provium_pool::Pool) of memory and vCPUs, in the order that their [`History`] advises, and tells what
//! happens as events. A file that panics is that
//! file's crash; nothing else stops.
//!
//! It knows files, tests and amounts, but no VM; it prints nothing and catches no signal: who wants
//! a run to end throws its [`Stop`] switch.

mod address;
mod candidates;
mod claim;
mod crash;
mod declared;
mod discover;
mod dispatch;
mod error;
mod file_kind;
mod fixture_refs;
mod give_up;
mod history;
mod ledger;
mod literals;
mod mean_cpus;
mod plan;
mod pressure;
mod queue;
mod run_file;
mod scanner;
mod thread;
mod walk;

pub use crash::record_panics;
pub use discover::{Request, TestFile, discover};
pub use dispatch::{Stop, run};
pub use error::DiscoverError;
pub use file_kind::{FIXTURE_SUFFIX, FileKind};
pub use fixture_refs::fixture_refs;
pub use give_up::STUCK_AFTER;
pub use history::{FileStats, History};
pub use literals::{Literals, literals};
pub use plan::{FileEnd, FileTask, Outcome, Plan, RunInfo};
pub use run_file::RunFile;
pub use thread::file_thread;
