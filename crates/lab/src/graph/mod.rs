//! The graph of resources: labs, their members, and operations on all of them at once.
//!
//! | file | what |
//! |---|---|
//! | `lab` | names of VMs and sub-labs |
//! | `membership` | labs within labs |
//! | `group` | operations on all VMs of a lab at once |
//! | `snapshot`, `lab_manifest` | snapshots of labs; what such a folder has |
//! | `baseline` | the state that the VMs of a file are reset to |
//! | `clone` | clones of a file's lab, for parallel tests |

pub(crate) mod baseline;
pub(crate) mod clone;
pub(crate) mod group;
pub(crate) mod lab;
mod lab_manifest;
mod membership;
pub(crate) mod snapshot;
