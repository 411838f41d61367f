//! The NICs of a VM.
//!
//! | file | purpose |
//! |---|---|
//! | `list` | the NICs that it has |
//! | `setup` | makes machine and guest have the NICs of the VM |
//! | `restore` | the NICs at a boot, in a snapshot, after a restore |
//! | `handle` | the NIC as a test holds it |
//! | `attach` | attaches VMs to bridges |

mod attach;
mod handle;
mod list;
mod restore;
mod setup;

pub(super) use list::VmNics;
pub(super) use restore::boot_nics;
pub(super) use setup::{NetworkError, configure_network, connect_nics, reconcile_network};

pub(crate) use list::VmNic;
pub(crate) use restore::{member_entries, restored_nics, saved_nics};
pub(crate) use setup::set_up_network;

pub use handle::Nic;
