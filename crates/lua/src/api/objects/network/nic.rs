//! NICs: `bridge:nic(vm)`, `vm:nic(name)`.

use super::capture;
use super::handles::{BridgeObject, NicObject, bridge_value, nic_value};
use crate::api::objects::handles::VmObject;
use crate::api::objects::value::{as_object, call_site};
use crate::binding::class::Class;
use crate::binding::raise::LuaError;
use mlua::{Lua, Result, Value};

/// `vm:nic(name or bridge)`.
pub(in crate::api::objects) fn of_vm(class: Class<'_, VmObject>) -> Result<Class<'_, VmObject>> {
    // As one that waits, so that it does nothing while tests are listed: then nothing is attached.
    class.async_method("nic", |lua, this, args| async move {
        let nic = match as_object::<BridgeObject>(&args.value(0)) {
            Some(bridge) => bridge.0.nic(&this.0)?,
            None => this.0.nic(&args.text(0, "the name")?)?,
        };
        Ok(nic_value(&lua, nic)?)
    })
}

/// Makes the class.
pub(super) fn install(lua: &Lua) -> Result<()> {
    Class::<NicObject>::new(lua)?
        .with(facts)?
        .with(link)?
        .method("close", |_, _, _| Ok::<Option<Value>, LuaError>(None))?
        .finish()
}

fn facts(class: Class<'_, NicObject>) -> Result<Class<'_, NicObject>> {
    class
        .method("name", |_, this, _| Ok(this.0.interface()?))?
        .method("mac", |_, this, _| {
            Ok(this.0.addresses("mac()")?.mac.to_string())
        })?
        .method("ip", |_, this, _| {
            Ok(this.0.addresses("ip()")?.host.ipv4.to_string())
        })?
        .method("ip6", |_, this, _| {
            Ok(this.0.addresses("ip6()")?.host.ipv6.to_string())
        })?
        .method("vm_name", |_, this, _| Ok(this.0.vm().name().to_owned()))?
        .method("bridge", |lua, this, _| {
            Ok::<Value, LuaError>(bridge_value(lua, this.0.bridge())?)
        })
}

fn link(class: Class<'_, NicObject>) -> Result<Class<'_, NicObject>> {
    class
        .async_method("counters", |lua, this, _| async move {
            let counters = this.0.counters().await?;
            let table = lua.create_table()?;
            table.raw_set("rx_bytes", counters.rx_bytes)?;
            table.raw_set("tx_bytes", counters.tx_bytes)?;
            table.raw_set("rx_packets", counters.rx_packets)?;
            table.raw_set("tx_packets", counters.tx_packets)?;
            table.raw_set("errors", counters.errors)?;
            table.raw_set("dropped", counters.dropped)?;
            Ok(table)
        })?
        .async_method("capture", |lua, this, _| async move {
            let (scope, site) = call_site(&lua);
            Ok(capture::value(&lua, this.0.capture(&scope, site).await?)?)
        })?
        .async_method("disconnect", |_, this, _| async move {
            Ok(this.0.disconnect().await?)
        })?
        .async_method("reconnect", |_, this, _| async move {
            Ok(this.0.reconnect().await?)
        })?
        .method("is_connected", |_, this, _| Ok(this.0.is_connected()?))
}
