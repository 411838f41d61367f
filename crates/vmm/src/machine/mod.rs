//! A machine that runs: what can be done to it, and what it tells.
//!
//! `launch` starts QEMU with its vCPUs stopped, meets it on its control socket, and lets the guest
//! go. From then on a supervisor task follows the process and its events; it alone
//! decides how the machine ended. [`Machine`] itself only gives commands. `restore` starts a machine
//! from a saved one in the same way, and leaves it standing still, as a `standby` until it is needed;
//! `save` writes one down. `wakeup` wakes one that sleeps, with the help of `stub`, `gdb` opens one to a debugger.

mod gdb;
mod handle;
mod launch;
mod resets;
mod restore;
mod save;
mod standby;
mod stub;
mod supervisor;
mod wakeup;

pub use handle::{AgentStreams, Machine, MachineEvent, survives_waking};
pub use save::SaveForm;
pub use standby::Standby;
