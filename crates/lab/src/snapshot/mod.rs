//! Snapshots of VMs: saved states that a test takes and restores.
//!
//! Several VMs are saved at one instant: all agents are quiesced and all machines paused
//! before the first is written, and none is resumed before the last is. A snapshot without a folder of
//! its own lies in the cache, holds only what differs from what its VM was booted from, and goes with
//! its last handle. One with a folder is whole, and can be used by later runs.
//!
//! Handles of the VM that was saved (processes, files, workers) are valid again after a restore into
//! the same VM, those made since are not. A VM that is restored from another one's snapshot has its
//! processes, but no handle on them.
//!
//! | file | what |
//! |---|---|
//! | `vm` | the snapshot of a VM |
//! | `folder` | the folder that holds a snapshot, and who owns it |
//! | `take` | saves VMs at one instant |
//! | `save_each` | saves as many VMs as can be saved, for a person |
//! | `restore` | restores VMs |
//! | `lifecycles` | the life-cycle locks of several VMs |
//!
//! Snapshots of labs are in `graph`.

pub(crate) mod folder;
pub(crate) mod lifecycles;
pub(crate) mod restore;
pub(crate) mod save_each;
pub(crate) mod take;
pub(crate) mod vm;

pub use vm::Snapshot;
