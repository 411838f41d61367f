//! Ports: `bridge:port()`, the test script itself as a peer of the guests.

use super::handles::{PortObject, bridge_value};
use crate::api::objects::value::as_object;
use crate::binding::class::{Class, async_function};
use crate::binding::raise::LuaError;
use crate::engine::test_file::TestFileState;
use mlua::{IntoLuaMulti as _, Lua, MultiValue, Result, Table, Value};
use provium_lab::{LabError, ReceivedFrame};
use std::time::Duration;

/// The timeout of `recv`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the task of `on_frame` waits at a time.
const TURN: Duration = Duration::from_secs(3600);

/// Makes the class, and what the prelude's part of it calls.
pub(super) fn install(lua: &Lua, native: &Table) -> Result<()> {
    let next = async_function(lua, "port:on_frame", true, |lua, args| async move {
        let port = as_object::<PortObject>(&args.value(0));
        let port = port.ok_or_else(|| {
            LuaError::argument("needs a port before its arguments (call it with `:`)")
        })?;
        loop {
            match port.0.recv(TURN).await {
                Ok(None) => {}
                Err(LabError::Gone { .. }) => return Ok(().into_lua_multi(&lua)?),
                received => return Ok(frame_values(&lua, received?)?),
            }
        }
    })?;
    native.raw_set("port_next", next)?;
    let on_frame = TestFileState::of(lua).prelude.method("on_frame")?;
    Class::<PortObject>::new(lua)?
        .with(facts)?
        .async_method("send", |_, this, args| async move {
            Ok(this.0.send(args.bytes(0, "the frame")?).await?)
        })?
        .async_method("recv", |lua, this, args| async move {
            let timeout = args
                .opt_duration(0, "the timeout")?
                .unwrap_or(DEFAULT_TIMEOUT);
            Ok(frame_values(&lua, this.0.recv(timeout).await?)?)
        })?
        .lua_method("on_frame", &on_frame)?
        .async_method(
            "close",
            |_, this, _| async move { Ok(this.0.close().await?) },
        )?
        .finish()
}

/// The frame and the time of its arrival in nanoseconds since 1970; nil if there is none.
fn frame_values(lua: &Lua, received: Option<ReceivedFrame>) -> Result<MultiValue> {
    let frame = received
        .map(|frame| Ok::<_, mlua::Error>((lua.create_string(frame.bytes)?, frame.time_ns)));
    match frame.transpose()? {
        Some(values) => values.into_lua_multi(lua),
        None => Value::Nil.into_lua_multi(lua),
    }
}

fn facts(class: Class<'_, PortObject>) -> Result<Class<'_, PortObject>> {
    class
        .method("name", |_, this, _| Ok(this.0.name().to_owned()))?
        .method("mac", |_, this, _| Ok(this.0.addresses().mac.to_string()))?
        .method("ip", |_, this, _| {
            Ok(this.0.addresses().host.ipv4.to_string())
        })?
        .method("ip6", |_, this, _| {
            Ok(this.0.addresses().host.ipv6.to_string())
        })?
        .method("bridge", |lua, this, _| {
            Ok::<Value, LuaError>(bridge_value(lua, this.0.bridge())?)
        })
}
