//! The router: the one process that talks to the host.
//!
//! ```text
//!   host ══ frames ══ router ══ packets ══ commands' executor
//!                       ╠═════════════════ raw executor
//!                       ╚═════════════════ a worker's executor …
//! ```
//!
//! One thread, one poll; nothing it does waits. Frames of lane 0 it carries out itself ([`tasks`]),
//! the others it passes on. A lane whose process ends has its open calls answered; the VM's own two
//! lanes get a fresh process. It runs nothing that a test wants, so nothing a test does can hurt it.

mod asks;
mod batch;
mod commands;
mod lanes;
mod outgoing;
mod quiet;
mod reaper;
mod serve;
mod session;
mod tasks;

pub(crate) use asks::{Asks, ask_for_module};
pub(crate) use serve::{Duties, Router};
