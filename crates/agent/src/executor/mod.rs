//! Executors: the processes that do what a test asks.
//!
//! ```text
//!   router ══ packets ══ I/O thread ── jobs ──▶ main thread ── starts ──▶ helper threads
//!      ▲                     │ pipes, ends of commands    │                    │
//!      └───────── replies and data, from whichever thread has them ◀───────────┘
//! ```
//!
//! The *main thread* does, one after the other, what must have the process's own identity: raw
//! syscalls, opening files, starting commands and helper threads, forking workers. The *I/O thread*
//! takes requests in, feeds and empties the pipes of commands, signals and cancels; it never does
//! what could wait for long. A *helper thread* does one thing that waits.
//!
//! An executor dies when a test's syscall kills it. The router sees that and tells the host.

mod call;
mod command;
mod exec;
mod io_loop;
mod job;
mod main_thread;
mod root;
mod shared;
mod tail;
mod threads;
mod worker;

pub(crate) use call::{Call, Input};
pub(crate) use exec::Surroundings;
pub(crate) use job::Outcome;
pub(crate) use main_thread::{Inheritance, adopt_socket, run};
pub(crate) use root::Root;
pub(crate) use shared::Shared;
