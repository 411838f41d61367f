//! Snapshots: saved states of VMs and labs that a test takes and restores.
//!
//! Several VMs are saved at one instant: all agents are quiesced and all machines paused
//! before the first is written, and none is resumed before the last is. A snapshot without a folder of
//! its own lies in the cache, holds only what differs from what its VM was booted from, and goes with
//! its last handle. One with a folder is whole, and can be used by later runs.
//!
//! Handles of the VM that was saved (processes, files, workers) are valid again after a restore into
//! the same VM, those made since are not. A VM that is restored from another one's snapshot has its
//! processes, but no handle on them.

mod baseline;
mod folder;
mod lab;
mod lab_clone;
mod lifecycles;
mod restore;
mod take;
mod vm;

pub use baseline::Baseline;
pub use lab::LabSnapshot;
pub use lab_clone::{LabClone, Reservation};
pub use vm::Snapshot;

pub(crate) use restore::RestoreReason;
