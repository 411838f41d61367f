//! The devices of a machine that can be plugged and unplugged while it runs: where they are, and how QEMU is asked for
//! them.
//!
//! | file | purpose |
//! |---|---|
//! | `bus` | the bus, and its addresses |
//! | `disk`, `nic` | a device of each kind, in its slot |
//! | `slot` | a slot of either kind |

pub(crate) mod bus;
pub(crate) mod disk;
mod nic;
mod slot;

pub use disk::{DiskDevice, DiskSlot};
pub use nic::NicSlot;
pub use slot::DeviceSlot;
