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
//! A dead VM can be booted, too. A call that changes the state and is cut short (its test's time is up,
//! its task is cancelled) is undone, or goes on to its end without its caller: no VM is left in between.
//!
//! | file | what |
//! |---|---|
//! | `handle` | the handle: names, states, look-ups |
//! | `options` | what a test may choose |
//! | `boot` | from options to an agent that answers |
//! | `template` | a boot that starts where another one had come to |
//! | `cold` | a boot from kernel and initial RAM disk |
//! | `power` | pause, resume, reset, power button, shutdown, close |
//! | `running` | a machine with its agent's session |
//! | `watch` | the watch over its life |
//! | `timeline` | which handles are still of the guest as it is now |

mod boot;
mod cold;
mod handle;
mod options;
mod power;
mod running;
mod template;
mod timeline;
mod watch;

pub(crate) use boot::{Started, now_ns};
pub(crate) use handle::Lifecycle;
pub(crate) use running::{MachineNumber, Running};
pub(crate) use timeline::{Mark, Past};

pub use handle::{Vm, VmState, VmStats};
pub use options::VmOptions;
pub use provium_image::BootFile;
