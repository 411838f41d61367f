//! Disks as Lua holds them, and what the methods of disks and of crash images share.

use crate::api::objects::value;
use crate::binding::args::Args;
use crate::binding::class::Object;
use crate::binding::raise::LuaError;
use mlua::{Lua, Result, Value};
use provium_lab::{Disk, LabClone};

/// Most sectors that a call reads: 64 MiB. More are read in parts, or with `save`.
const MOST_SECTORS: u64 = 128 * 1024;

/// The disk of a VM as Lua holds it.
#[derive(Clone)]
pub(super) struct DiskObject(pub(super) Disk);

impl Object for DiskObject {
    const CLASS: &'static str = "disk";
    fn subject(&self) -> String {
        self.0.subject()
    }
    fn describe(&self) -> String {
        let is_detached = self.0.is_detached();
        let state = if is_detached { " (detached)" } else { "" };
        format!("{}{state}", self.0.subject())
    }
    fn resolve_in(&self, copy: &LabClone) -> Self {
        Self(copy.disk(&self.0))
    }
}

/// The Lua value of a disk.
pub(super) fn disk_value(lua: &Lua, disk: Disk) -> Result<Value> {
    let key = format!("{} {}", disk.vm().id(), disk.id());
    value::of_key(lua, &key, || DiskObject(disk))
}

/// The arguments of `read_sectors`: the first sector and the count.
pub(super) fn sectors_to_read(args: &Args) -> std::result::Result<(u64, u64), LuaError> {
    let first = args.unsigned(0, "the first sector")?;
    let count = args.unsigned(1, "the count")?;
    if count > MOST_SECTORS {
        return Err(LuaError::argument(format!(
            "the count: at most {MOST_SECTORS} sectors (64 MiB) at a time, got {count}; \
             `save(path)` writes all of them to a file of the host"
        )));
    }
    Ok((first, count))
}
