//! `provium console`: a shell or one command in a guest, a fresh one or one that a failed test has left.
//!
//! | file | what |
//! |---|---|
//! | `enter` | boots or restores the VM, pushes files, and ends everything afterwards |
//! | `shell` | what is run in the guest |
//! | `session` | connects the command's streams with those of this process |
//! | `local` | reads and writes the streams of this process, on threads of their own |

mod enter;
mod local;
mod session;
mod shell;

pub(super) use enter::run;
