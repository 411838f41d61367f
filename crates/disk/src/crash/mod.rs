//! Crash states: every content that a disk could have after a loss of power.
//!
//! The model is that of the kernel's dm-log-writes (`admin-guide/device-mapper/log-writes`): a write is in the log when
//! it completes; a flush makes durable what completed before it; a write with FUA makes itself durable. So after a
//! crash all writes before the last completed flush are there, and of those after it any subset, as a drive writes its
//! cache in any order.
//!
//! The states come in this order, so that the shortest sequence of writes after which a program cannot recover is found
//! first:
//!
//! 1. prefixes: the first write, the first two, …: a drive that writes in order;
//! 2. between two flushes, all writes but one;
//! 3. between two flushes, subsets: all of them where these are few, a seeded choice otherwise;
//! 4. prefixes whose last write of several sectors is torn after some of them.
//!
//! No content comes twice. It is compared by a hash that is a sum over blocks, so a state costs the blocks in which it
//! differs from the one before. A state is a disk of its own that shares all data with the others: its map is a copy,
//! and what a guest writes to it goes to a new overlay.

mod image;
mod states;

pub use states::{CrashOptions, CrashState, CrashStates};
