//! Disks: `vm:disk()`, `vm:attach_disk()`.
//!
//! A disk belongs to its VM, and not to a scope: it exists until it is detached or its VM is closed.

use super::handles::{DiskObject, disk_value, sectors_to_read};
use super::options;
use super::{crash_states, faults, power};
use crate::api::globals::record_write;
use crate::api::objects::handles::{VmObject, vm_value};
use crate::api::objects::paths::host_path;
use crate::binding::class::Class;
use crate::binding::raise::LuaError;
use mlua::{Lua, Result, Table, Value};
use provium_lab::{DiskStats, SECTOR};

/// `vm:disk(id)`, `vm:disks()`, `vm:attach_disk()`.
pub(in crate::api::objects) fn of_vm(class: Class<'_, VmObject>) -> Result<Class<'_, VmObject>> {
    class
        .async_method("disk", |lua, this, args| async move {
            let disk = this.0.disks().get(&args.text(0, "the id")?).await?;
            Ok(disk_value(&lua, disk)?)
        })?
        .async_method("disks", |lua, this, _| async move {
            let list = lua.create_table()?;
            for disk in this.0.disks().all().await? {
                list.push(disk_value(&lua, disk)?)?;
            }
            Ok(list)
        })?
        .async_method("attach_disk", |lua, this, args| async move {
            let options = args.options(0, options::known_of_attached())?;
            let attached = options::attached(&lua, &options)?;
            let disk = this.0.disks().attach(attached.options, attached.content);
            Ok(disk_value(&lua, disk.await?)?)
        })?
        .with(power::of_vm)
}

/// Makes the class.
pub(super) fn install(lua: &Lua) -> Result<()> {
    Class::<DiskObject>::new(lua)?
        .with(facts)?
        .with(content)?
        .with(attachment)?
        .with(faults::add)?
        .with(power::add)?
        .with(crash_states::add)?
        .finish()
}

fn facts(class: Class<'_, DiskObject>) -> Result<Class<'_, DiskObject>> {
    class
        .method("id", |_, this, _| Ok(this.0.id().to_owned()))?
        .method("size", |_, this, _| Ok(this.0.size()?))?
        .method("vm", |lua, this, _| {
            Ok::<Value, LuaError>(vm_value(lua, this.0.vm())?)
        })?
        .method("node", |_, this, _| {
            Ok(this.0.node().map(|name| format!("/dev/{name}")))
        })?
        .method("stats", |lua, this, _| {
            Ok(stats_table(lua, &this.0.stats()?)?)
        })
}

fn content(class: Class<'_, DiskObject>) -> Result<Class<'_, DiskObject>> {
    class
        .async_method("read_sectors", |lua, this, args| async move {
            let (first, count) = sectors_to_read(&args)?;
            let data = this.0.read_sectors(first, count).await?;
            Ok(lua.create_string(data)?)
        })?
        .async_method("write_sectors", |_, this, args| async move {
            let first: u64 = args.unsigned(0, "the first sector")?;
            let data = args.bytes(1, "the data")?;
            if !(data.len() as u64).is_multiple_of(SECTOR) {
                return Err(LuaError::argument(format!(
                    "the data: must be whole sectors of {SECTOR} bytes, got {} bytes",
                    data.len()
                )));
            }
            Ok(this.0.write_sectors(first, data).await?)
        })?
        .async_method("save", |lua, this, args| async move {
            let path = host_path(&lua, &args.text(0, "the path")?)?;
            record_write(&lua, &path);
            Ok(this.0.save(&path).await?)
        })
}

fn attachment(class: Class<'_, DiskObject>) -> Result<Class<'_, DiskObject>> {
    class
        .async_method(
            "detach",
            |_, this, _| async move { Ok(this.0.detach().await?) },
        )?
        .async_method(
            "close",
            |_, this, _| async move { Ok(this.0.detach().await?) },
        )?
        .method("is_detached", |_, this, _| Ok(this.0.is_detached()))
}

/// Counts of the guest's commands.
fn stats_table(lua: &Lua, stats: &DiskStats) -> Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("reads", stats.reads)?;
    table.raw_set("writes", stats.writes)?;
    table.raw_set("flushes", stats.flushes)?;
    table.raw_set("discards", stats.discards)?;
    table.raw_set("read_bytes", stats.read_bytes)?;
    table.raw_set("written_bytes", stats.written_bytes)?;
    table.raw_set("unflushed", stats.unflushed_writes)?;
    table.raw_set("unflushed_bytes", stats.unflushed_bytes)?;
    table.raw_set("failed", stats.failed)?;
    Ok(table)
}
