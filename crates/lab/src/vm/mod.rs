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
//! | `nic` | its NICs |
//! | `disk` | its disks |
//! | `install`, `running` | the machine of a VM that is booted |
//! | `guest_vm` | the VM as the handles of its guest see it |
//! | `monitor` | watches for the end of the guest |
//! | `panic` | the restart of a guest whose kernel has panicked |
//! | `reconnect` | the agent after a reset |
//! | `console` | waits on its console that end with its guest |
//! | `death` | how a VM ends, and how that is reported |
//! | `power` | pause, resume, reset, power button, shutdown, close |
//! | `stats` | statistics |

mod boot;
mod cold;
mod console;
mod death;
mod disk;
mod guest_vm;
mod handle;
mod identity;
mod install;
mod load;
mod modules;
mod monitor;
mod nic;
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
pub(crate) use disk::{
    GuestView, MachineDisks, forked_disks, insert_disk, restored_disks, save_disks, settle_disks,
};
pub(crate) use install::install;
pub(crate) use load::{load, restore_request};
pub(crate) use nic::{VmNic, member_entries, restored_nics, saved_nics, set_up_network};
pub(crate) use power::{switch_off, switch_off_as};
pub(crate) use running::{RunningMachine, StartedMachine};
pub(crate) use state::Lifecycle;

pub use console::ConsoleWait;
pub use disk::{Disk, Disks};
pub use handle::{GuestActivity, Vm};
pub use nic::Nic;
pub use power::Power;
pub use provium_image::BootFile;
pub use state::VmState;
pub use stats::VmStats;
