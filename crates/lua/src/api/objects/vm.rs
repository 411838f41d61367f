//! Virtual machines: `lab:vm()`.

use super::handles::{VmObject, vm_value, worker_value};
use super::network::bridges_of;
use super::value::as_object;
use super::{clock, console, disk, network, snapshot, surface, value, vm_options, worker};
use crate::binding::args::Args;
use crate::binding::class::{Class, async_function};
use crate::binding::raise::LuaError;
use mlua::{Lua, Result, Table, Value};
use provium_lab::{Bridge, Vm, VmOptions, VmState, VmStats};

/// The options in the argument at `index`; none there: all by default.
pub(super) fn options(
    lua: &Lua,
    args: &Args,
    index: usize,
) -> std::result::Result<VmOptions, LuaError> {
    if !args.has(index) {
        return Ok(VmOptions::default());
    }
    vm_options::read(lua, &args.table(index, "the options")?)
}

/// The bridges in option `nics` of the argument at `index`; `None` if it is not given.
pub(super) fn bridges(
    lua: &Lua,
    args: &Args,
    index: usize,
) -> std::result::Result<Option<Vec<Bridge>>, LuaError> {
    if !args.has(index) {
        return Ok(None);
    }
    let list = args.table(index, "the options")?.get::<Value>("nics")?;
    if list.is_nil() {
        return Ok(None);
    }
    let bridges = bridges_of(lua, &list);
    bridges
        .map(Some)
        .map_err(|error| error.within("option `nics`"))
}

/// Attaches a VM that is off to those of the bridges that it is not attached to.
async fn attach(vm: &Vm, bridges: &[Bridge]) -> std::result::Result<(), LuaError> {
    for bridge in bridges {
        if bridge.nic(vm).is_err() {
            bridge.attach(std::slice::from_ref(vm)).await?;
        }
    }
    Ok(())
}

/// Makes the class, and what the prelude's part of `lab:vm()` calls.
pub(super) fn install(lua: &Lua, native: &Table) -> Result<()> {
    let attach_new = async_function(lua, "lab:vm", true, |lua, args| async move {
        let vm = as_object::<VmObject>(&args.value(0));
        let vm = vm.ok_or_else(|| LuaError::argument("needs a vm"))?;
        let bridges = bridges_of(&lua, &args.value(1))?;
        let attached = attach(&vm.0, &bridges).await;
        if attached.is_err() {
            // Its name is free again; the first error is the one that is reported.
            let _ = vm.0.close().await;
        }
        attached
    })?;
    native.raw_set("attach_new", attach_new)?;
    Class::<VmObject>::new(lua)?
        .with(surface::add)?
        .with(lifecycle)?
        .with(facts)?
        .with(parts)?
        .with(network::of_vm)?
        .with(disk::of_vm)?
        .with(snapshot::of_vm)?
        .finish()
}

fn lifecycle(class: Class<'_, VmObject>) -> Result<Class<'_, VmObject>> {
    class
        .async_method("boot", |lua, this, args| async move {
            let left = value::time_left(&lua);
            let options = options(&lua, &args, 0)?;
            let bridges = bridges(&lua, &args, 0)?.unwrap_or_default();
            let is_off = !matches!(this.0.state(), VmState::Booted | VmState::Paused);
            if is_off {
                attach(&this.0, &bridges).await?;
            }
            this.0.boot_within(options, left).await?;
            Ok(vm_value(&lua, &this.0)?)
        })?
        .async_method("pause", |_, this, _| async move {
            Ok(this.0.power().pause().await?)
        })?
        .async_method("resume", |_, this, _| async move {
            Ok(this.0.power().resume().await?)
        })?
        .async_method("shutdown", |_, this, _| async move {
            Ok(this.0.power().shutdown().await?)
        })?
        .async_method("reset", |_, this, _| async move {
            Ok(this.0.power().reset().await?)
        })?
        .async_method("power_button", |_, this, _| async move {
            Ok(this.0.power().power_button().await?)
        })?
        .async_method("wakeup", |_, this, _| async move {
            Ok(this.0.power().wakeup().await?)
        })?
        .async_method(
            "close",
            |_, this, _| async move { Ok(this.0.close().await?) },
        )
}

fn facts(class: Class<'_, VmObject>) -> Result<Class<'_, VmObject>> {
    class
        .method("name", |_, this, _| Ok(this.0.name().to_owned()))?
        .method("profile", |_, this, _| Ok(this.0.profile().to_owned()))?
        .method("state", |_, this, _| Ok(this.0.state().to_string()))?
        .method("cid", |_, this, _| Ok(this.0.cid()))?
        .method("is_quiescent", |_, this, _| {
            Ok(this.0.activity().is_quiescent())
        })?
        .method("open_file_count", |_, this, _| Ok(this.0.activity().files))?
        .method("open_stream_count", |_, this, _| {
            Ok(this.0.activity().streams)
        })?
        .async_method("uptime", |_, this, _| async move {
            Ok(this.0.uptime().await?.as_secs_f64())
        })?
        .async_method("gdb", |_, this, _| async move {
            Ok(this.0.power().gdb().await?)
        })?
        .async_method("stats", |lua, this, _| async move {
            Ok(stats_table(&lua, &this.0.stats().await?)?)
        })
}

fn parts(class: Class<'_, VmObject>) -> Result<Class<'_, VmObject>> {
    class
        .method("console", |lua, this, _| {
            Ok::<Value, LuaError>(console::value(lua, &this.0)?)
        })?
        .method("clock", |lua, this, _| {
            Ok::<Value, LuaError>(clock::value(lua, &this.0)?)
        })?
        .async_method("spawn_worker", |lua, this, args| async move {
            let (scope, _) = value::call_site(&lua);
            let worker = this.0.spawn_worker(&scope, worker::spec(&args)?).await?;
            Ok(worker_value(&lua, this.0.clone(), worker)?)
        })
}

/// Times in seconds, memory in bytes.
fn stats_table(lua: &Lua, stats: &VmStats) -> Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("cpu_time", stats.cpu_time.as_secs_f64())?;
    table.raw_set("resident_memory", stats.resident_bytes)?;
    table.raw_set("proportional_memory", stats.proportional_bytes)?;
    table.raw_set("boot_kind", stats.boot_kind.word())?;
    table.raw_set("boot_time", stats.boot_time.as_secs_f64())?;
    table.raw_set("guest_memory_total", stats.guest.memory_total)?;
    table.raw_set("guest_memory_available", stats.guest.memory_available)?;
    table.raw_set("guest_processes", stats.guest.processes)?;
    Ok(table)
}
