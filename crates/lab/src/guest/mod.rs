//! A test's operations in a guest, and handles of the objects there. Knows nothing of boots, snapshots and labs.
//!
//! | file | purpose | above |
//! |---|---|---|
//! | `stream` | bytes that arrive while a test runs | |
//! | `worker_state`, `target` | where calls go: a VM or a worker, seen through the trait `GuestVm` | `stream` |
//! | `context` | a call: its target, the subject and the name in its messages, its epoch | `target` |
//! | `wait`, `kill` | how the harness waits for a guest, what bounds a wait, how a missing answer is explained; the end of commands | `context` |
//! | `command`, `describe` | what to run, what came of it; calls as messages show them | |
//! | `tail`, `file`, `process`, `syscall`, `clock` | handles | `wait` |
//! | `handles` | the handles of a VM or worker | `file`, `process` |
//! | `ops`, `batch` | the operations, which make the handles | all of these |
//! | `attached` | a command whose streams are passed on | `ops` |
//! | `server` | waiting for servers in the guest, connections to them | `ops` |
//! | `tree` | directories, copied with all that is in them | `ops` |
//! | `worker` | workers, which offer the operations, too | `ops` |
//! | `console` | a guest's console | `stream` |

pub(crate) mod attached;
pub(crate) mod batch;
pub(crate) mod clock;
pub(crate) mod command;
pub(crate) mod console;
pub(crate) mod context;
pub(crate) mod describe;
pub(crate) mod file;
pub(crate) mod handles;
pub(crate) mod kill;
pub(crate) mod ops;
pub(crate) mod process;
pub(crate) mod server;
pub(crate) mod stream;
pub(crate) mod syscall;
pub(crate) mod tail;
pub(crate) mod target;
pub(crate) mod tree;
pub(crate) mod wait;
pub(crate) mod worker;
pub(crate) mod worker_state;
