//! VMs.
//!
//! ```text
//!            boot            pause
//! created ─────────▶ booted ───────▶ paused
//!    ▲ boot             │ ▲ resume ◀───┘
//! shutdown ◀────────────┤ shutdown, power_button
//!   dead  ◀─────────────┘ QEMU or the guest ended on its own
//! ```
//!
//! | file | what |
//! |---|---|
//! | `handle` | the handle: names, states, look-ups |
//! | `options` | what a test may choose |
//! | `boot` | from options to an agent that answers |
//! | `power` | pause, resume, reset, power button, shutdown, close |
//! | `running` | a machine with its agent's session, and the watch over its life |

mod boot;
mod handle;
mod options;
mod power;
mod running;

pub use handle::{Vm, VmState, VmStats};
pub use options::VmOptions;
pub use provium_image::BootFile;
