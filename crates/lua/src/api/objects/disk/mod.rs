//! Disks.
//!
//! | file | purpose |
//! |---|---|
//! | `object` | the disks of a VM; the class `disk` |
//! | `options` | the options `disks` of a VM, and those of `vm:attach_disk()` |
//! | `faults` | `disk:fault_inject()` and its shorthands |
//! | `power` | power cuts, and the record of a disk's writes |
//! | `crash_states` | `disk:crash_states()`, and the class `crash_image` |
//! | `handles` | the disk as Lua holds it |

mod crash_states;
mod faults;
mod handles;
mod install;
mod object;
mod options;
mod power;

pub(super) use install::install;
pub(super) use object::of_vm;
pub(super) use options::declared;
