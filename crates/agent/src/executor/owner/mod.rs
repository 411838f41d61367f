//! The owner of a lane: the VM or a worker, with its raw process and all that waits for that process.
//!
//! Operations are of two kinds. *Exact* ones (raw calls, opening and closing files, starting workers) need the
//! raw process itself, and wait for it, in order. All others (commands, files) need a process with its state:
//! the raw process forks one for each; while it is busy, the executor forks one that joins its state.
//!
//! | file | what |
//! |---|---|
//! | `owner` | the handle of the other threads: queue, cancel, signal, close |
//! | `schedule` | what the raw process does next, and where its answer goes |
//! | `raw_process` | starting the raw process, and what its end means |
//! | `syscalls` | raw calls, in the foreground and in the background |
//! | `files` | opening and closing |
//! | `operations`, `results` | operation processes: starting them; taking their pipes and results |
//! | `workers` | starting workers |
//! | `state` and the rest | the data of these, under one lock |
//!
//! A thread that has an event takes a turn: the main thread when it queues an operation, the owner's thread
//! when the bell of the shared memory has rung. Nothing blocks while the lock is held; effects on others are
//! collected, and applied afterwards. The raw process is forked by the owner's thread only, because it dies
//! with the thread that forked it.

mod effect;
mod files;
mod layout;
mod operations;
#[expect(clippy::module_inception, reason = "the type of that name")]
mod owner;
mod queued_op;
mod raw_call;
mod raw_process;
mod request;
mod results;
mod schedule;
mod slot_use;
mod state;
mod syscalls;
mod workers;

pub(super) use operations::stale;
pub(super) use owner::{Owner, start_thread};
pub(super) use queued_op::QueuedOp;
pub(super) use results::INLINE_LIMIT;
