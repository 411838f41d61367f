//! The agent as an ordinary process, driven with frames.

#![expect(unsafe_code, reason = "a child inherits a descriptor")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the harness is outside of test functions, but as much of a test as they are"
)]

mod host;

mod commands;
mod disks;
mod files;
mod lanes;
mod network;
mod servers;
mod sessions;
mod syscalls;
mod trees;
