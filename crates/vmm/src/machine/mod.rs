//! A machine that runs: its handle, its start, its supervisor.
//!
//! | file | purpose |
//! |---|---|
//! | `inputs` | opens the files that a machine starts from |
//! | `start`, `start_error` | starts QEMU with its vCPUs stopped, and connects to its control socket |
//! | `load` | loads saved state into it |
//! | `standby` | a machine that is ready to run and not assigned yet |
//! | `launch` | a boot: a standby without saved state, resumed at once |
//! | `handle` | [`Machine`]: the commands |
//! | `control` | commands to QEMU, with a deadline and errors that name the machine |
//! | `devices` | plugs and unplugs NICs and disks, and inserts disks |
//! | `supervisor`, `status`, `resets`, `stderr` | the task that follows the process and its events, and alone decides how the machine ended |
//! | `guest_end` | tells the servers of disks that QEMU flushes on its own |
//! | `save` | saves a paused machine |
//! | `s3` | which kernels can be woken |
//! | `processors` | what the vCPUs do |
//! | `gdb`, `stub`, `wakeup` | QEMU's gdbstub for a debugger, and for waking a guest from S3 |

mod control;
mod devices;
mod gdb;
mod guest_end;
mod handle;
mod inputs;
mod launch;
mod load;
mod processors;
mod resets;
mod s3;
mod save;
mod standby;
mod start;
mod start_error;
mod status;
mod stderr;
mod stub;
mod supervisor;
mod wakeup;

pub use guest_end::GuestEndWatch;
pub use handle::Machine;
pub use processors::ProcessorState;
pub use s3::supports_s3;
pub use save::SaveForm;
pub use standby::Standby;
pub use start::AgentStreams;
pub use status::{MachineEvent, PanicAction};
