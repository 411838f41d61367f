//! From a machine's specification to a running QEMU, and its end.
//!
//! Three things are kept apart: a [`MachineSpec`] says *what* is wanted, [`Qemu`] is the
//! *environment* that can run it, a [`Machine`] is one that *runs*. A machine's life:
//!
//! ```text
//! MachineSpec ─┐            pause ⇄ resume, reset, power_button, wakeup
//!              ├─ launch ─▶ Machine ──────────────────────────────────▶ quit ─▶ reaped
//! Qemu ────────┘               │   ▲
//!                              │   └─ save (it stands still) ─▶ SavedMachine ─ restore ─▶ Machine
//!                              └─▶ Death: powered off, panicked, QEMU killed … known at once
//! ```
//!
//! Everything between a machine and this process goes over inherited sockets and unlinked files, so
//! a run that is killed leaves nothing on disk; QEMU itself carries a parent-death signal.
//!
//! [`decide_accel`] says whether KVM really works here, and how fast guests run. [`Console`] keeps every byte the guest
//! prints and outlives the machine. [`kernel_arguments()`] are the kernel's arguments that make a boot
//! fast.
//!
//! What it does not do: it knows nothing of the agent's protocol (it hands out the streams), of
//! guest images, tests or labs. A backend without QEMU belongs beside [`Machine`], not inside.

mod accel;
mod arguments;
mod confinement;
mod console;
mod death;
mod entropy;
mod error;
mod initrd;
mod kernel_arguments;
mod machine;
mod qemu;
mod saved;
mod spec;
pub mod tiny;
mod usage;

pub use accel::{Accel, AccelChoice, Decision, decide_accel};
pub use console::{Console, ConsoleError, Suspicion};
pub use death::{Death, DeathKind};
pub use error::{VmmError, is_of_content};
pub use kernel_arguments::{
    CmdlineDefaults, KernelArgument, default_kernel_arguments, kernel_arguments,
};
pub use machine::{AgentStreams, Machine, MachineEvent, SaveForm, Standby, survives_waking};
pub use provium_qmp::Version;
pub use qemu::{OLDEST_QEMU, Qemu};
pub use saved::{MachineFacts, SavedError, SavedMachine};
pub use spec::{AGENT_INIT, AGENT_PORT, InitrdPart, MachineSpec};
pub use usage::Usage;
