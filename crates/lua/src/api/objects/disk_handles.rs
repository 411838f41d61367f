//! Disks as Lua holds them. Their methods are in files of their own.

use super::value;
use crate::binding::class::Object;
use mlua::{Lua, Result, Value};
use provium_lab::{Disk, LabClone};

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
