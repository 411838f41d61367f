//! The memory and vCPUs that a run may use, shared out among its files.
//!
//! A boot asks its [`FileBudget`] for [`Resources`] and gets a [`Grant`], which returns them when it is
//! dropped. The budget takes them from the file's [`Claim`] if it has one, from the budget of the file
//! that waits for a fixture's build, or from the [`Pool`], where requests wait for their turn.
//!
//! | file | what |
//! |---|---|
//! | `core` | who gets what: a pure function of requests and returns, without threads and time |
//! | `pool` | requests that wait, events, guards |
//! | `file_budget` | claims, and what a file's VMs hold |
//! | `waiting`, `stopwatch`, `activity`, `caller` | a wait for other files stops the clocks of the one that waits |
//! | `cancel` | ends the files of a run early |
//! | `host` | how much there is by default |
//!
//! The rules of the core:
//!
//! - Requests are granted in their order. A request that does not fit does not block smaller ones behind
//!   it. Once it has been overtaken [`OVERTAKEN_LIMIT`](core::OVERTAKEN_LIMIT) times, only files that hold
//!   something may pass it, and no further file is started.
//! - Each running file counts with at least its reservation when further files are started. The
//!   reservation holds nothing: boots compete for what is really taken.
//! - A request that could never be granted is refused at once.
//! - vCPUs can be shared, memory cannot. A file that by itself wants more vCPUs than there are gets them: no
//!   other file could help it, and it would hold those that it has for nothing.
//! - When every file that holds something waits for more, nothing can be returned. Where only vCPUs are
//!   short, the oldest request is granted although there are none. Where memory is short, and no part of those
//!   files has done anything for two seconds, the youngest request is refused, with the names of the files that hold
//!   the rest. A file with a task that does anything else, for however long, may still return something.
//!
//! This crate knows no VM and starts nothing.

mod activity;
mod caller;
mod cancel;
mod core;
mod error;
mod file_budget;
mod grant;
mod host;
mod pool;
mod stopwatch;
mod waiting;

pub use activity::Activity;
pub use caller::{Caller, FileWatch};
pub use cancel::CancelToken;
pub use error::PoolError;
pub use file_budget::{Claim, FileBudget};
pub use grant::{BlockedGuard, Grant, VM_OVERHEAD, resources_of_vm};
pub use host::{HostMemory, default_cpus, default_memory};
pub use pool::{Pool, RunningFile};
pub use provium_events::Resources;
pub use stopwatch::{StopReason, Stopwatch};
pub use waiting::uncounted;
