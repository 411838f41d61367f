//! The NICs and disks of a running machine.
//!
//! | file | purpose |
//! |---|---|
//! | `slots` | the slots of one kind of device, and the release of a device by the guest |
//! | `hotplug` | what plugging NICs and plugging disks have in common |
//! | `nics`, `nic_commands` | plugs and unplugs NICs |
//! | `disks`, `disk_commands` | inserts, plugs and unplugs disks |
//! | `export` | asks an NBD server what it exports |

mod disk_commands;
mod disks;
mod export;
mod hotplug;
mod nic_commands;
mod nics;
mod slots;

pub(super) use disks::Disks;
pub(super) use nics::Nics;
