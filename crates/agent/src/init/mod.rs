//! What the agent does as process 1, before and besides serving.
//!
//! ```text
//!   kernel ─▶ process 1 ── mounts for itself, loads modules ──┬─ an init exists: fork
//!                                                             │    parent ─▶ execs that init
//!                                                             │    child  ─▶ serves
//!                                                             └─ none: mounts for all, serves, reaps
//! ```

mod chain;
pub(crate) mod modules;
mod mounts;
pub(crate) mod power;
mod prepare;

pub(crate) use prepare::{expose_to_oom_killer, start};
