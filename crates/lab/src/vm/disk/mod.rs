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
//! | `guest_view` | makes the guest see its disks as they are |
//! | `reboot` | the disks of a guest that boots again on the machine that it had |
//! | `restore` | the disks in a snapshot, after a restore |
//! | `handle` | the disk as a test holds it |
//! | `attach` | attaches and detaches disks |

mod attach;
mod content;
mod declared;
mod guest_view;
mod handle;
mod list;
mod reboot;
mod restore;
mod setup;

pub(super) use declared::disks_for_boot;
pub(super) use list::VmDisks;
pub(super) use reboot::{connect_lost_disks, settle_again};
pub(super) use setup::DiskSetupError;

pub(crate) use guest_view::{GuestView, settle_disks};
pub(crate) use restore::{forked_disks, restored_disks, save_disks};
pub(crate) use setup::{InsertTime, MachineDisks, insert_disk};

pub use handle::{Disk, Disks};
