//! Raw processes: the state that an owner's raw calls, files and commands share.
//!
//! ```text
//!   executor ── shared memory ── raw process ── forks ──▶ operation process
//!       ▲                                                     │ pipes, result
//!       └─────────────────────────────────────────────────────┘
//! ```
//!
//! Every owner (the VM, each worker) has one. To a test it looks like any other process: one task, a
//! session of its own, no descriptor of the agent. It waits in a futex for the next
//! [request](crate::sys::area::Code) and makes raw calls on its only thread; an asynchronous call runs on a
//! further thread.
//!
//! Files by path, open files and commands are handled by an *operation process* that it forks for each,
//! so they have its descriptors, folders, namespaces and credentials, and do not delay each other.
//! Children are created with `CLONE_PARENT`: their parent is the executor, which collects every exit.
//!
//! While it is busy with a raw call, the executor forks the operation process itself, which then
//! [joins] its state.
//!
//! Code in here must not use locks of the executor, which may be held by other threads at the fork.

mod carry_out;
mod connect;
mod identity;
mod join;
mod launch;
mod operation;
mod paths;
mod reserved_slot;
mod serve;
mod stream_pipes;
mod tail;
mod transfer;
mod tree;
mod wait;
mod worker;

pub(crate) use carry_out::name_of as operation_name;
pub(crate) use join::run_beside;
pub(crate) use reserved_slot::ReservedSlot;
pub(crate) use serve::become_raw_process;
pub(crate) use worker::{name_of as worker_name, reaper_name_of as reaper_name};
