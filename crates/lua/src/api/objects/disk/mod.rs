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
mod object;
mod options;
mod power;

pub(super) use object::of_vm;
pub(super) use options::declared;

use mlua::{Lua, Result, Table};

/// Makes the classes, and what the prelude's part of them calls.
pub(super) fn install(lua: &Lua, native: &Table) -> Result<()> {
    crash_states::install(lua, native)?;
    object::install(lua)
}
