//! Labs, VMs and workers as Lua holds them. Their methods are in files of their own, which use each other's
//! handles.

use super::value;
use crate::binding::class::Object;
use mlua::{Lua, Result, Value};
use provium_lab::{GuestOps, Lab, LabClone, Vm, Worker};

/// A lab as Lua holds it.
#[derive(Clone)]
pub(super) struct LabObject(pub(super) Lab);

impl Object for LabObject {
    const CLASS: &'static str = "lab";
    fn subject(&self) -> String {
        format!("lab `{}`", self.0.name())
    }
    fn resolve_in(&self, copy: &LabClone) -> Self {
        Self(copy.lab(&self.0))
    }
}

/// The Lua value of a lab.
pub(super) fn lab_value(lua: &Lua, lab: &Lab) -> Result<Value> {
    value::of(lua, lab.id(), || LabObject(lab.clone()))
}

/// A VM as Lua holds it.
#[derive(Clone)]
pub(super) struct VmObject(pub(super) Vm);

impl Object for VmObject {
    const CLASS: &'static str = "vm";
    fn subject(&self) -> String {
        self.0.subject()
    }
    fn resolve_in(&self, copy: &LabClone) -> Self {
        Self(copy.vm(&self.0))
    }
}

impl HasSurface for VmObject {
    fn surface(&self) -> GuestOps {
        self.0.ops()
    }
}

/// The Lua value of a VM.
pub(super) fn vm_value(lua: &Lua, vm: &Vm) -> Result<Value> {
    value::of(lua, vm.id(), || VmObject(vm.original()))
}

/// A worker as Lua holds it.
#[derive(Clone)]
pub(super) struct WorkerObject {
    pub(super) vm: Vm,
    pub(super) worker: Worker,
}

impl Object for WorkerObject {
    const CLASS: &'static str = "worker";
    fn subject(&self) -> String {
        self.worker.subject()
    }
    fn resolve_in(&self, copy: &LabClone) -> Self {
        Self {
            vm: copy.vm(&self.vm),
            worker: copy.worker(&self.worker),
        }
    }
}

impl HasSurface for WorkerObject {
    fn surface(&self) -> GuestOps {
        self.worker.ops().clone()
    }
}

/// The Lua value of a worker of `vm`.
pub(super) fn worker_value(lua: &Lua, vm: Vm, worker: Worker) -> Result<Value> {
    value::of(lua, worker.id(), || WorkerObject { vm, worker })
}

/// An object that commands, files and syscalls of a guest are reached through.
pub(super) trait HasSurface: Object {
    /// The lab's side of it.
    fn surface(&self) -> GuestOps;
}
