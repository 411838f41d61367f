//! Bridges, NICs and ports as Lua holds them. Their methods are in files of their own, which use each other's handles.

use crate::api::objects::value;
use crate::binding::class::Object;
use mlua::{Lua, Result, Value};
use provium_lab::{Bridge, LabClone, Nic, Port};

/// A bridge as Lua holds it.
#[derive(Clone)]
pub(in crate::api::objects) struct BridgeObject(pub(in crate::api::objects) Bridge);

impl Object for BridgeObject {
    const CLASS: &'static str = "bridge";
    fn subject(&self) -> String {
        self.0.subject()
    }
    fn describe(&self) -> String {
        let state = if self.0.is_closed() { " (closed)" } else { "" };
        format!("{}{state}", self.0.subject())
    }
    fn resolve_in(&self, copy: &LabClone) -> Self {
        Self(copy.bridge(&self.0))
    }
}

/// The Lua value of a bridge.
pub(in crate::api::objects) fn bridge_value(lua: &Lua, bridge: &Bridge) -> Result<Value> {
    value::of(lua, bridge.id(), || BridgeObject(bridge.clone()))
}

/// The NIC of a VM on a bridge as Lua holds it.
#[derive(Clone)]
pub(super) struct NicObject(pub(super) Nic);

impl Object for NicObject {
    const CLASS: &'static str = "nic";
    fn subject(&self) -> String {
        self.0.subject()
    }
    fn resolve_in(&self, copy: &LabClone) -> Self {
        Self(copy.nic(&self.0))
    }
}

/// The Lua value of a NIC.
pub(super) fn nic_value(lua: &Lua, nic: Nic) -> Result<Value> {
    let key = format!("{} {}", nic.vm().id(), nic.bridge().id());
    value::of_key(lua, &key, || NicObject(nic))
}

/// A port as Lua holds it.
#[derive(Clone)]
pub(super) struct PortObject(pub(super) Port);

impl Object for PortObject {
    const CLASS: &'static str = "port";
    fn subject(&self) -> String {
        self.0.subject()
    }
    fn describe(&self) -> String {
        let state = if self.0.is_closed() { " (closed)" } else { "" };
        format!("{}{state}", self.0.subject())
    }
    fn resolve_in(&self, copy: &LabClone) -> Self {
        Self(copy.port(&self.0))
    }
}

/// The Lua value of a port.
pub(super) fn port_value(lua: &Lua, port: &Port) -> Result<Value> {
    value::of(lua, port.id(), || PortObject(port.clone()))
}
