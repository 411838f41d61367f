//! Bridges: `lab:bridge()`. What happens to their frames is in `bridge_rules` and `bridge_faults`.

use super::handles::{BridgeObject, nic_value, port_value};
use super::members::{bridge_of, bridges_of, vm_of, vms_of};
use super::{capture, faults, rules};
use crate::api::objects::value::call_site;
use crate::binding::args::Args;
use crate::binding::class::Class;
use crate::binding::raise::LuaError;
use mlua::{Lua, Result, Table, Value};
use provium_lab::{BridgeOptions, Ipv4Network, MacAddress};
use std::net::Ipv4Addr;

/// The options in the argument at `index`; `None` if there are none.
pub(in crate::api::objects) fn options(
    args: &Args,
    index: usize,
) -> std::result::Result<Option<BridgeOptions>, LuaError> {
    if !args.has(index) {
        return Ok(None);
    }
    let options = args.options(index, &["subnet", "seed", "mtu", "dhcp"])?;
    let subnet = options.text("subnet")?.map(|text| {
        let subnet = text.parse::<Ipv4Network>();
        subnet.map_err(|error| LuaError::argument(format!("option `subnet`: {error}")))
    });
    Ok(Some(BridgeOptions {
        subnet: subnet.transpose()?,
        // All 64 bits are a seed; Lua's integers are signed.
        seed: options.integer("seed")?.map(i64::cast_unsigned),
        mtu: options.unsigned("mtu")?,
        dhcp: options.flag("dhcp")?,
    }))
}

/// Makes the class, and what the prelude's part of it calls.
pub(super) fn install(lua: &Lua, native: &Table) -> Result<()> {
    Class::<BridgeObject>::new(lua)?
        .with(facts)?
        .with(membership)?
        .with(parts)?
        .with(rules::add)?
        .with(|class| faults::add(class, native))?
        .finish()
}

fn facts(class: Class<'_, BridgeObject>) -> Result<Class<'_, BridgeObject>> {
    class
        .method("name", |_, this, _| Ok(this.0.name().to_owned()))?
        .method("members", |_, this, _| Ok(this.0.members()))?
        .method("mtu", |_, this, _| Ok(this.0.mtu()))?
        .method("subnet", |_, this, _| {
            Ok(this.0.subnet().ipv4().to_string())
        })
}

fn membership(class: Class<'_, BridgeObject>) -> Result<Class<'_, BridgeObject>> {
    class
        .async_method("attach", |lua, this, args| async move {
            let vms = vms_of(&lua, &args.value(0))?;
            Ok(this.0.attach(&vms).await?)
        })?
        .async_method("detach", |lua, this, args| async move {
            let vms = vms_of(&lua, &args.value(0))?;
            Ok(this.0.detach(&vms).await?)
        })?
        .async_method("route", |lua, this, args| async move {
            let to = match args.value(0) {
                list @ Value::Table(_) => bridges_of(&lua, &list)?,
                one => vec![bridge_of(&lua, &one)?],
            };
            Ok(this.0.route(&to).await?)
        })?
        .method("routes", |_, this, _| {
            let routes = this.0.routes().into_iter();
            Ok(routes
                .map(|bridge| bridge.name().to_owned())
                .collect::<Vec<_>>())
        })?
        .async_method("enable_uplink", |_, this, _| async move {
            Ok(this.0.enable_uplink().await?)
        })?
        .async_method("disable_uplink", |_, this, _| async move {
            Ok(this.0.disable_uplink().await?)
        })?
        .async_method(
            "close",
            |_, this, _| async move { Ok(this.0.close().await?) },
        )
}

fn parts(class: Class<'_, BridgeObject>) -> Result<Class<'_, BridgeObject>> {
    class
        // As one that waits, so that it does nothing while tests are listed: then nothing is attached.
        .async_method("nic", |lua, this, args| async move {
            let vm = vm_of(&lua, &args.value(0))?;
            Ok(nic_value(&lua, this.0.nic(&vm)?)?)
        })?
        .async_method("capture", |lua, this, _| async move {
            let (scope, site) = call_site(&lua);
            Ok(capture::value(&lua, this.0.capture(&scope, site).await?)?)
        })?
        .async_method("port", |lua, this, args| async move {
            let name = args.text(0, "the name")?;
            let options = args.options(1, &["mac", "ip"])?;
            let mac = options.text("mac")?.map(|text| mac_address(&text));
            let ip = options.text("ip")?.map(|text| ipv4_address(&text));
            let (mac, ip) = (mac.transpose()?, ip.transpose()?);
            let (scope, _) = call_site(&lua);
            let port = this.0.port(&scope, &name, mac, ip).await?;
            Ok(port_value(&lua, &port)?)
        })
}

fn mac_address(text: &str) -> std::result::Result<MacAddress, LuaError> {
    let bad = |why: &str| LuaError::argument(format!("option `mac`: {text:?} {why}"));
    let bytes = text.split(':').map(|byte| {
        let is_hex = byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_hex.then(|| u8::from_str_radix(byte, 16).ok()).flatten()
    });
    let bytes: Option<Vec<u8>> = bytes.collect();
    let bytes = bytes.and_then(|bytes| <[u8; 6]>::try_from(bytes).ok());
    let bytes = bytes.ok_or_else(|| {
        bad("is not a MAC address; write six bytes in hexadecimal, as in \"52:54:00:12:34:56\"")
    })?;
    let address = MacAddress(bytes);
    if address.is_group() {
        return Err(bad(
            "is a group address; the first byte of a station's address is even",
        ));
    }
    Ok(address)
}

fn ipv4_address(text: &str) -> std::result::Result<Ipv4Addr, LuaError> {
    text.parse().map_err(|_| {
        LuaError::argument(format!(
            "option `ip`: {text:?} is not an IPv4 address, such as \"10.0.1.200\""
        ))
    })
}
