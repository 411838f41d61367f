//! What runs the guest's instructions: the host's CPU through KVM, or QEMU's translator (TCG).
//!
//! That `/dev/kvm` can be opened proves nothing. In cloud sandboxes there are paravirtual KVMs that
//! abort QEMU, or that run a kernel many times slower than TCG does. So `auto` starts the
//! [tiny guest](crate::tiny) under both, through the real QEMU with the real CPU model, and takes KVM
//! if its result is right and it was faster. The verdict holds until the host reboots and is kept in
//! the cache folder.

mod choice;
mod decide;
mod probe;
mod verdict;

pub use choice::{Accel, AccelChoice};
pub use decide::decide_accel;
