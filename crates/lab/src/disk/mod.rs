//! The disks of VMs: what an author asks for, the volumes that hold it, and the services that give it to a machine.
//!
//! ```text
//! DiskOptions ── open ──▶ Volume ── serve ──▶ ServedDisks ── QEMU ── guest
//!                           │  ▲
//!                      save ▼  │ restore
//!                       SavedVmDisk, in the snapshot of its VM
//! ```
//!
//! A volume exists as long as its VM has the disk, through boots, resets and shutdowns. It is served as long as a
//! machine runs.
//!
//! | file | purpose |
//! |---|---|
//! | `options` | what an author may choose |
//! | `volume` | what is on a disk |
//! | `scratch` | the folder of the host for what is written, and for sockets |
//! | `served` | the services of a machine's disks |
//! | `vm_disk` | a disk of a VM |
//! | `saved` | a disk in a snapshot |

mod options;
mod saved;
mod scratch;
mod served;
mod vm_disk;
mod volume;

pub(crate) use saved::SavedVmDisk;
pub(crate) use scratch::DiskScratch;
pub(crate) use served::{DrainGuard, ServedDisks};
pub(crate) use vm_disk::{DiskOrigin, VmDisk, serial_of};
pub(crate) use volume::{Volume, VolumeError, disk_seed};

pub use options::{DiskId, DiskOptions, DiskSource};
