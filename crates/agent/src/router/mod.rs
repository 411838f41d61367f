//! The router: the one process that talks to the host.
//!
//! ```text
//!   host ══ frames ══ router ══ packets ══ executor
//! ```
//!
//! One thread, one poll; it never waits anywhere else. It carries out the calls to lane 0 itself and passes
//! the others on. When the executor ends, its open calls are answered and another one is started. The
//! router runs nothing that a test wants, so nothing that a test does can hurt it.
//!
//! | part | owns |
//! |---|---|
//! | [`host_link`] | the byte stream to the host: decoding, output, announcement, session |
//! | [`executors`] | the executor, its open calls, and former ones that have still to end |
//! | [`tasks`] | requests to lane 0 |
//! | [`configuration_tasks`] | requests about the network and disks, each in a process of its own |
//! | [`quiescence`] | how far the way to a save, or back, has come |
//! | [`module_server`] | programs of the guest that need a kernel module from the host |
//! | [`dispatch`] | all of them: polls, passes on what has come, and applies the [`effect`]s |

mod configuration_request;
mod configuration_tasks;
mod dispatch;
mod effect;
mod executor;
mod executors;
mod host_link;
mod module_server;
mod outgoing;
mod quiescence;
mod tasks;

pub(crate) use dispatch::{Router, RouterConfig};
pub(crate) use module_server::ModuleServer;
