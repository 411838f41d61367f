//! The disks of a VM.
//!
//! ```text
//! profile, options ─▶ declared ─┐
//!                               ├─▶ list ── setup ──▶ inserted into the machine ─▶ set in the guest
//! Disks::attach ───▶ attach ────┤                          (NBD, QMP)                  (agent)
//! snapshot ────────▶ restore ───┘
//! ```
//!
//! | file | purpose |
//! |---|---|
//! | `list` | the disks that it has |
//! | `content` | opens what is on them |
//! | `declared` | the disks that its profile and its options name |
//! | `setup` | gives machine and guest the disks of the VM |
//! | `restore` | the disks in a snapshot, after a restore |
//! | `handle` | the disk as a test holds it |
//! | `attach` | attaches and detaches disks |

mod attach;
mod content;
mod declared;
mod handle;
mod list;
mod restore;
mod setup;

pub(super) use declared::disks_for_boot;
pub(super) use list::VmDisks;
pub(super) use setup::{DiskSetupError, connect_lost_disks, settle_again};

pub(crate) use restore::{forked_disks, restored_disks, save_disks};
pub(crate) use setup::{GuestView, InsertTime, MachineDisks, insert_disk, settle_disks};

pub use handle::{Disk, Disks};
