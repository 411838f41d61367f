//! Child processes of the host: started, grouped, bounded, never left behind.
//!
//! This is the only place of the host that forks. A [`Command`] says what to start; `spawn` gives a
//! [`Child`]; the child ends by itself, by [`Child::kill`], or when its handle is dropped. In every
//! one of these ways its whole process group is killed and it is reaped.
//!
//! A command of a user's, which starts processes of its own, is [supervised](Command::supervised): all
//! of them end with it, also those that left its group, and also when this process is killed.
//!
//! If the host process itself is killed, the kernel kills the children: each carries a
//! parent-death signal. That signal is tied to the *thread* that forked, not to the process, so all
//! forks happen on one thread that never ends (see `spawner`).
//!
//! What it does not do: run shells, open terminals, or reach into a guest. Commands inside a guest
//! are the agent's work.

mod child;
mod command;
mod error;
mod limits;
mod output;
mod spawner;
mod sys;
mod watchdog;

pub use child::{Child, Exit, Killer};
pub use command::{Command, Stdio};
pub use error::ProcessError;
pub use limits::{most_address_space, most_open_files, raise_limits};
pub use output::{Output, output};
pub use sys::watch_readable;

/// Ends this process at once with `status`: for one that is stuck in what an orderly end would wait
/// for. Its children are killed, as in every end.
pub fn exit_now(status: i32) -> ! {
    sys::exit_now(status)
}
