//! The agent's work before it serves.
//!
//! ```text
//!   kernel ─▶ process 1 ── mounts for itself, loads modules,
//!              enters a root on a disk, if that is planned ───┬─ an init exists: fork
//!                                                             │    parent ─▶ execs that init
//!                                                             │    child  ─▶ serves
//!                                                             └─ none: mounts for all, serves, reaps
//!
//!   an init of the image's own, or a script ─▶ joiner ── opens /proc, /sys, /dev for itself ─▶ serves
//! ```
//!
//! Process 1 has a boot plan where the host has put the agent into the image. An image that brings the
//! agent itself has none: its guest is taken as it is, and only mounts that are missing are made.

mod chain;
mod copy;
pub(crate) mod modules;
mod mounts;
pub(crate) mod power;
mod prepare;
mod root_disk;

pub(crate) use prepare::{join, start};
