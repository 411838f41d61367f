//! The executor: one process that has what the raw processes must not have.
//!
//! ```text
//!   router ══ packets ══ main thread ══ pipes ══ commands and transfers
//!                            │ jobs
//!                        an owner's thread ── shared memory ── its raw process
//! ```
//!
//! The *main thread* takes requests in, feeds and empties pipes, collects children, signals and cancels;
//! it never does what could wait for long. Each *owner* (the VM, every worker) has a thread that waits
//! for news from its raw process and that process's children.
//!
//! It is the parent of every raw process, command and operation process, so it learns how each ends,
//! whatever a test does to its own process.

mod background;
mod batch;
mod call;
mod command;
mod io_loop;
mod layout;
mod operations;
mod owner;
mod root;
mod shared;
mod start;
mod steps;
mod table;
mod tree;
mod workers;

pub(crate) use root::Root;
pub(crate) use start::{Numbers, run};
