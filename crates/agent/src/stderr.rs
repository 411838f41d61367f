//! Messages of the agent as a program that is run by hand.

use crate::sys::fd;

/// Writes a line to standard error.
pub(crate) fn print(line: &str) {
    let _ = fd::write_all(2, format!("{line}\n").as_bytes());
}
