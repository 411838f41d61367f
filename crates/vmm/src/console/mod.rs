//! The guest's console: every byte it ever printed, and a way to type into it.
//!
//! A [`ConsoleLog`] is made before its first machine and outlives its last one. While a machine runs, a
//! task moves bytes from QEMU's first UART into the spool and lets a
//! matcher look for the words of a kernel that gives up. [`kernel_log`] finds what a kernel reports about itself.

mod failure_hint;
pub mod kernel_log;
mod log;
mod spool;

pub use failure_hint::FailureHint;
pub use log::{ConsoleError, ConsoleLog};
