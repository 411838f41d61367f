//! Accelerators: the host's CPU through KVM, or QEMU's translator (TCG).
//!
//! That `/dev/kvm` can be opened proves nothing. In cloud sandboxes there are paravirtual KVMs that
//! abort QEMU, or that run a kernel many times slower than TCG does. So `auto` starts the
//! [tiny guest](crate::tiny) under both, through the real QEMU with the real CPU model, and takes KVM
//! if its result is right and it was faster. The time that the guest's work took is also the timeout
//! multiplier. The trials are valid until the host reboots, and are kept in the cache folder; those that a
//! busy host has disturbed are repeated.

mod choice;
mod decide;
mod measurement;
mod probe;
mod processor;
mod trial;
mod trial_cache;
mod verdict;

pub use choice::{Accel, AccelChoice};
pub use decide::{Decision, decide_accel, measure_accel};
pub use processor::Processor;
