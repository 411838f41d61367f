//! Machines: from a specification to a running QEMU, and to its end.
//!
//! A [`MachineSpec`] says what is wanted, [`Qemu`] is the program that runs it, a [`Machine`] is one that runs:
//!
//! ```text
//! MachineSpec ─┐            pause ⇄ resume, reset, power_button, wakeup
//!              ├─ launch ─▶ Machine ──────────────────────────────────▶ quit ─▶ reaped
//! Qemu ────────┘             │   ▲  └─▶ Death: powered off, panicked, QEMU killed …, reported at once
//!                            │   │
//!               save (paused)│   │assign
//!                            ▼   │
//!                  SavedMachine ─┴─ restore ─▶ Standby
//! ```
//!
//! NICs can be there at launch, or be plugged and unplugged at any time ([`NicSlot`]). The other end of each is a
//! socket with Ethernet frames, which a switch serves.
//!
//! So can disks ([`DiskDevice`]). A machine starts with placeholders; [`Machine::insert_disk`] gives a disk its
//! content, which is the export of an NBD server.
//!
//! A machine and this process are connected by inherited sockets and unlinked files, so a run that is killed
//! leaves nothing on disk. QEMU carries a parent-death signal.
//!
//! [`decide_accel`] finds out whether KVM works here, and how fast guests run. [`ConsoleLog`] keeps every byte
//! that a guest prints, and outlives the machine. [`kernel_arguments()`] are the kernel's arguments that make a
//! boot fast.
//!
//! The crate does not know the agent's protocol (it only provides the streams), guest images, tests or labs. A
//! backend without QEMU belongs beside [`Machine`], not inside it.

mod accel;
mod arguments;
mod confinement;
mod console;
mod death;
mod device;
mod entropy;
mod error;
mod initrd;
mod kernel_arguments;
mod machine;
mod qemu;
mod saved;
mod shape;
mod spec;
pub mod tiny;
mod usage;

pub use accel::{Accel, AccelChoice, Decision, Processor, decide_accel, measure_accel};
pub use console::kernel_log;
pub use console::{ConsoleError, ConsoleLog, FailureHint};
pub use death::{Death, DeathKind};
pub use device::{DeviceSlot, DiskDevice, DiskSlot, NicSlot};
pub use error::{VmmError, is_of_content};
pub use kernel_arguments::{
    CmdlineDefaults, KernelArgument, default_kernel_arguments, kernel_arguments,
};
pub use machine::{
    AgentStreams, GuestEndWatch, Machine, MachineEvent, PanicAction, ProcessorState, SaveForm,
    Standby, supports_s3,
};
pub use provium_qmp::Version;
pub use qemu::{OLDEST_QEMU, Qemu};
pub use saved::{MachineManifest, SavedError, SavedMachine};
pub use spec::{AGENT_INIT, AGENT_PORT, InitrdPart, MachineSpec};
pub use usage::Usage;
