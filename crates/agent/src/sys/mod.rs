//! The kernel's interface, as far as the agent needs it, behind functions that are safe to call.
//!
//! Everything `unsafe` of the agent is in here (and in the allocator). Nothing in here knows of
//! lanes, calls or messages.

pub(crate) mod area;
pub(crate) mod block;
pub(crate) mod boot;
pub(crate) mod clock;
pub(crate) mod detached;
pub(crate) mod errno;
mod errno_text;
pub(crate) mod exclusive;
pub(crate) mod fd;
pub(crate) mod file;
pub(crate) mod futex;
pub(crate) mod memory;
pub(crate) mod namespace;
pub(crate) mod netlink;
pub(crate) mod packet;
pub(crate) mod process;
pub(crate) mod raw;
pub(crate) mod sibling;
pub(crate) mod signal;
pub(crate) mod slot;
pub(crate) mod socket;
pub(crate) mod spawn;
pub(crate) mod terminal;
pub(crate) mod thread;
pub(crate) mod tree;

pub(crate) use errno::{Errno, Sys, check};
