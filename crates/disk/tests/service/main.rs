//! The NBD service with a disk in memory: against a client of our own, which can also be hostile, and against the
//! clients of QEMU and libnbd.
#![expect(clippy::expect_used, clippy::print_stderr, reason = "tests")]

mod client;
mod delays;
mod hostile;
mod memory;
mod pace;
mod requests;
mod tools;
