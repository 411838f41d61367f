//! The memory and vCPUs that a run may use, shared out among its files.
//!
//! Its core decides, without threads and without time; [`Pool`] lets boots wait for what it
//! decides. Rules:
//!
//! - What is asked for is granted in the order of asking. A request that does not fit does not hold
//!   up smaller ones behind it, but once it was overtaken often enough, nobody who holds nothing is
//!   let past it, and no further file is started.
//! - Each file that runs counts with at least its reservation when further files are started. The
//!   reservation holds nothing: boots compete for what is really taken.
//! - A request that could never be granted is refused at once.
//! - When every file that holds something waits for more, nothing can be given back. Where only
//!   vCPUs are short, the oldest of them gets them all the same: they can be shared, memory cannot.
//!   Where memory is short, and that lasts, the youngest of their requests is refused, by name.

mod core;
mod host;
mod shared;

pub use host::{HostMemory, default_cpus, default_memory};
pub(crate) use shared::Running;
pub use shared::{Pool, PoolSize};
