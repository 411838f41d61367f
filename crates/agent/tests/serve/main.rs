//! The agent as an ordinary process, driven with frames.

#![expect(unsafe_code, reason = "a child inherits a descriptor")]

mod host;

mod commands;
mod files;
mod lanes;
mod sessions;
mod syscalls;
