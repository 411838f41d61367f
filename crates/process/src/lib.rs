//! Child processes of the host, none of which outlives its handle.
//!
//! This is the only crate of the host that forks. A [`Command`] describes what to start, and
//! [`Command::spawn`] returns a [`Child`]. The child exits by itself, is killed by [`Child::kill`], or is
//! killed when its handle is dropped. In each case its process group is killed and the child is reaped.
//!
//! A user's command, which starts processes of its own, is [supervised](Command::supervised): all of them
//! end with it, also those that have left its group, and also when this process is killed.
//!
//! If this process is killed, the kernel kills the children, since each has a parent-death signal. That
//! signal depends on the *thread* that forked, not on the process, so one thread that never ends does all
//! the forking (see `spawner`).
//!
//! | file | |
//! |---|---|
//! | `command` | what to start |
//! | `launch` | from a command to a child |
//! | `child` | a running child and its exit |
//! | `spawner`, `sys` | the thread that forks; what a child does between `fork` and `execve` |
//! | `watchdog` | what kills the descendants of a supervised child |
//! | `output` | a tool that runs to its exit within a deadline |
//! | `limits` | resource limits |
//! | `time_stamp_counter` | the processor's counter; here, since only this crate of the host has `unsafe` code |
//!
//! It does not run shells, open terminals, or start processes in a guest.

mod child;
mod command;
mod error;
mod launch;
mod limits;
mod output;
mod spawner;
mod sys;
mod time_stamp_counter;
mod watchdog;

pub use child::{Child, Exit, Killer};
pub use command::{Command, Stdio};
pub use error::ProcessError;
pub use limits::{max_address_space, max_open_files, raise_limits};
pub use output::{Output, output};
pub use sys::watch_readable;
pub use time_stamp_counter::time_stamp_counter;

/// Ends this process at once with `status`, when an orderly end would wait forever. Its children are
/// killed.
pub fn exit_now(status: i32) -> ! {
    sys::exit_now(status)
}
