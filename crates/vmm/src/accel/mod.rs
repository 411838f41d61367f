//! What runs the guest's instructions: the host's CPU through KVM, or QEMU's translator (TCG).
//!
//! That `/dev/kvm` can be opened proves nothing. In cloud sandboxes there are paravirtual KVMs that
//! abort QEMU, or that run a kernel many times slower than TCG does. So `auto` starts the
//! [tiny guest](crate::tiny) under both, through the real QEMU with the real CPU model, and takes KVM
//! if its result is right and it was faster. The time that the guest's work took is also the measure of how
//! patient everybody has to be with guests. The trials hold until the host reboots and are kept in the
//! cache folder.

mod choice;
mod decide;
mod kept;
mod probe;
mod trial;
mod verdict;

pub use choice::{Accel, AccelChoice};
pub use decide::{Decision, decide_accel};
