//! The graph of resources: labs, their members, and operations on all of them at once.
//!
//! | file | what |
//! |---|---|
//! | `lab` | names of VMs and sub-labs |
//! | `membership` | labs within labs |
//! | `group` | operations on all VMs of a lab at once |
//! | `snapshot` | snapshots of labs |
//! | `baseline` | the state that the VMs of a file are reset to |
//! | `clone` | clones of a file's lab, for parallel tests |
//!
//! Bridges, network interfaces and disks, which belong to a lab and connect its VMs, will live here.

pub(crate) mod baseline;
pub(crate) mod clone;
pub(crate) mod group;
pub(crate) mod lab;
mod membership;
pub(crate) mod snapshot;
