//! The router: the one process that talks to the host.
//!
//! ```text
//!   host ══ frames ══ router ══ packets ══ executor
//! ```
//!
//! One thread, one poll; nothing it does waits. Calls to lane 0 it carries out itself ([`tasks`]), the
//! others it passes on. When the executor ends, open calls are answered and another one is started. It
//! runs nothing that a test wants, so nothing a test does can hurt it.

mod asks;
mod commands;
mod link;
mod outgoing;
mod quiet;
mod reaper;
mod serve;
mod session;
mod tasks;

pub(crate) use asks::{Asks, ask_for_module};
pub(crate) use serve::{Duties, Router};
