//! VMs.
//!
//! ```text
//!            boot            pause
//! created ─────────▶ booted ───────▶ paused
//!    ▲ boot             │ ▲ resume ◀───┘
//! shutdown ◀────────────┤ shutdown, power_button
//!   dead  ◀─────────────┘ QEMU or the guest ended on its own, or its agent is lost
//! ```
//!
//! A dead VM can be booted, too. A call that changes the state and is cancelled (its test's time is up, its
//! task is cancelled) is undone, or continues to its end without its caller: no VM is left in between.
//!
//! | file | purpose |
//! |---|---|
//! | `state` | the state of a VM, the right to change it, and the errors of calls that it does not allow |
//! | `handle` | the handle: names, states, look-ups |
//! | `boot` | from options to an agent that answers |
//! | `template` | a boot from a template, and the making of one |
//! | `cold`, `modules` | a boot from kernel and initial RAM disk; the modules that a guest requests |
//! | `rate` | whether the clock of a guest that has booted cold is right |
//! | `identity` | name, clock and randomness of a guest |
//! | `load` | loads a saved VM, for `template` and for `snapshot` |
//! | `nics` | the NICs of a VM |
//! | `nic_restore` | the NICs at a boot, in a snapshot, after a restore |
//! | `network` | makes machine and guest have the NICs that the VM has |
//! | `attach` | attaches VMs to bridges |
//! | `nic` | the NIC as a test holds it |
//! | `disks` | the disks of a VM |
//! | `declared_disks` | the disks that it is to have |
//! | `disk_content` | opens what is on them |
//! | `disk_setup` | gives machine and guest the disks of the VM |
//! | `disk_restore` | the disks in a snapshot, after a restore |
//! | `attach_disk` | attaches and detaches disks |
//! | `disk` | the disk as a test holds it |
//! | `install`, `running` | the machine of a VM that is booted |
//! | `guest_vm` | the VM as the handles of its guest see it |
//! | `monitor` | watches for the end of the guest |
//! | `panic` | the restart of a guest whose kernel has panicked |
//! | `reconnect` | the agent after a reset |
//! | `death` | how a VM ends, and how that is reported |
//! | `power` | pause, resume, reset, power button, shutdown, close |
//! | `stats` | statistics |

mod attach;
mod attach_disk;
mod boot;
mod cold;
mod death;
mod declared_disks;
mod disk;
mod disk_content;
mod disk_restore;
mod disk_setup;
mod disks;
mod guest_vm;
mod handle;
mod identity;
mod install;
mod load;
mod modules;
mod monitor;
mod network;
mod nic;
mod nic_restore;
mod nics;
mod panic;
mod power;
mod rate;
mod ready;
mod reconnect;
mod running;
mod state;
mod stats;
mod template;

pub(crate) use death::emit_shutdown;
pub(crate) use disk_restore::{forked_disks, restored_disks, save_disks};
pub(crate) use disk_setup::{MachineDisks, insert_disk, settle_disks};
pub(crate) use install::install;
pub(crate) use load::{load, restore_request};
pub(crate) use network::set_up_network;
pub(crate) use nic_restore::{member_entries, restored_nics, saved_nics};
pub(crate) use nics::VmNic;
pub(crate) use power::{switch_off, switch_off_as};
pub(crate) use running::{Running, Started};
pub(crate) use state::Lifecycle;

pub use disk::{Disk, Disks};
pub use handle::{GuestActivity, Vm};
pub use nic::Nic;
pub use power::Power;
pub use provium_image::BootFile;
pub use state::VmState;
pub use stats::VmStats;
