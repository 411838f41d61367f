//! The guest's console: every byte it ever printed, and a way to type into it.
//!
//! A [`Console`] is made before its first machine and outlives its last one. While a machine runs, a
//! task moves bytes from QEMU's first UART into the spool and lets a
//! matcher look for the words of a kernel that gives up.

mod log;
mod spool;
mod suspicion;

pub use log::{Console, ConsoleError};
pub use suspicion::Suspicion;
