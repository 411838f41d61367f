//! The executor: the process that has the pipes, children and memory that raw processes must not have.
//!
//! ```text
//!   router ══ packets ══ main thread ══ pipes ══ commands and transfers
//!                         │       ▲
//!              operations │       │ started commands and workers
//!                         ▼       │
//!                        an owner's thread ── shared memory ── its raw process
//! ```
//!
//! The *main thread* takes requests in, feeds and empties pipes, collects children, signals and cancels;
//! it never does what could wait for long. Each *owner* (the VM, every worker) has a thread that waits
//! for news from its raw process and that process's children.
//!
//! It is the parent of every raw process, command and operation process, so it learns how each ends,
//! whatever a test does to its own process.
//!
//! | file | what | belongs to |
//! |---|---|---|
//! | `event_loop` | poll, pipes, children | main thread |
//! | `host_calls` | frames → calls → owners; `requests`, `immediate`, `cancellations`, `timers`, `batch` are parts of it | main thread |
//! | `command/` | commands and transfers that run | main thread |
//! | `owners` | the owners of all lanes | main thread |
//! | `owner/` | a lane's owner with its raw process | all, under a lock for each owner |
//! | `calls`, `call`, `joins` | open calls, how they are answered, what waits for all of them | all |
//! | `children` | whose each child is | all |
//! | `spawned` | what owners hand over to the main thread | all |

mod areas;
mod batch;
mod call;
mod calls;
mod cancellations;
mod children;
mod command;
mod event_loop;
mod host_calls;
mod immediate;
mod joins;
mod numbers;
mod owner;
mod owners;
mod process_tree;
mod requests;
mod root;
mod router_link;
mod shared;
mod spawned;
mod start;
mod table;
mod timers;

pub(crate) use numbers::Numbers;
pub(crate) use root::Root;
pub(crate) use start::run;
