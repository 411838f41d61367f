//! Snapshots: `vm:snapshot()`, `lab:snapshot()`.

use super::handles::{VmObject, vm_value};
use super::paths::host_path;
use super::value::{self, as_object, call_site};
use crate::api::globals::{record_read, record_write};
use crate::binding::args::Args;
use crate::binding::class::{Class, Object};
use crate::binding::preview::shown;
use crate::binding::raise::LuaError;
use crate::binding::values::text_of;
use crate::engine::file_data::file_data;
use camino::Utf8PathBuf;
use mlua::{Lua, Result, Value};
use provium_lab::{BuildOutput, Lab, LabSnapshot, SNAPSHOT_SEAL, Snapshot};
use std::cell::Cell;

/// After snapshots of this size in the cache, bytes, garbage is collected so that unused ones are removed.
const COLLECT_AFTER: u64 = 64 << 20;

/// A VM's snapshot as Lua holds it.
#[derive(Clone)]
struct SnapshotObject(Snapshot);

impl Object for SnapshotObject {
    const CLASS: &'static str = "snapshot";
    fn subject(&self) -> String {
        self.0.subject()
    }
}

/// A lab's snapshot as Lua holds it.
#[derive(Clone)]
struct LabSnapshotObject(LabSnapshot);

impl Object for LabSnapshotObject {
    const CLASS: &'static str = "lab_snapshot";
    fn subject(&self) -> String {
        self.0.subject()
    }
}

/// Makes the classes.
pub(super) fn install(lua: &Lua) -> Result<()> {
    Class::<SnapshotObject>::new(lua)?
        .method("path", |_, this, _| Ok(this.0.path().into_string()))?
        .method("size", |_, this, _| Ok(this.0.size()))?
        .method("delete", |_, this, _| Ok(this.0.delete()?))?
        .method("close", |_, this, _| Ok(this.0.delete()?))?
        .finish()?;
    Class::<LabSnapshotObject>::new(lua)?
        .method("path", |_, this, _| Ok(this.0.path().into_string()))?
        .method("size", |_, this, _| Ok(this.0.size()))?
        .method("delete", |_, this, _| Ok(this.0.delete()?))?
        .method("close", |_, this, _| Ok(this.0.delete()?))?
        .finish()
}

/// `vm:snapshot()` and `vm:restore()`.
pub(super) fn of_vm(class: Class<'_, VmObject>) -> Result<Class<'_, VmObject>> {
    class
        .async_method("snapshot", |lua, this, args| async move {
            let place = place(&lua, &args)?;
            let taken = this.0.snapshot(place.as_deref()).await?;
            if place.is_none() {
                relieve(&lua, taken.size());
            }
            Ok(value::of(&lua, taken.id(), || {
                SnapshotObject(taken.clone())
            })?)
        })?
        .async_method("restore", |lua, this, args| async move {
            match as_object::<SnapshotObject>(&args.value(0)) {
                Some(snapshot) => this.0.restore(&snapshot.0).await?,
                None => {
                    let folder = saved_before(&lua, &args)?;
                    Snapshot::restore_folder(&folder, &this.0).await?;
                }
            }
            Ok(vm_value(&lua, &this.0)?)
        })
}

/// `lab:snapshot()`: with a folder, its path.
pub(super) async fn take_lab(
    lua: &Lua,
    lab: &Lab,
    args: &Args,
) -> std::result::Result<Value, LuaError> {
    let (scope, _) = call_site(lua);
    let place = place(lua, args)?;
    let taken = LabSnapshot::take(lab, &scope, place.as_deref()).await?;
    if place.is_none() {
        relieve(lua, taken.size());
    } else {
        return Ok(Value::String(lua.create_string(taken.path().as_str())?));
    }
    let id = taken.id();
    Ok(value::of(lua, id, || LabSnapshotObject(taken))?)
}

/// `lab:restore()`.
pub(super) async fn restore_lab(
    lua: &Lua,
    lab: &Lab,
    args: &Args,
) -> std::result::Result<(), LuaError> {
    let (scope, _) = call_site(lua);
    match as_object::<LabSnapshotObject>(&args.value(0)) {
        Some(snapshot) => Ok(snapshot.0.restore(lab, &scope).await?),
        None => {
            let folder = saved_before(lua, args)?;
            Ok(LabSnapshot::restore_folder(&folder, lab, &scope).await?)
        }
    }
}

/// The snapshot that a fixture's script returned.
pub(crate) fn taken_from(value: &Value) -> Option<BuildOutput> {
    let vm = as_object::<SnapshotObject>(value).map(|snapshot| BuildOutput::Vm(snapshot.0));
    vm.or_else(|| {
        as_object::<LabSnapshotObject>(value).map(|snapshot| BuildOutput::Lab(snapshot.0))
    })
}

fn place(lua: &Lua, args: &Args) -> std::result::Result<Option<Utf8PathBuf>, LuaError> {
    let path = args.opt_text(0, "the folder")?;
    let folder = path.map(|path| host_path(lua, &path)).transpose()?;
    if let Some(folder) = &folder {
        record_write(lua, &folder.join(SNAPSHOT_SEAL));
    }
    Ok(folder)
}

/// Bytes of snapshots in the cache since Lua's garbage was collected for their sake.
#[derive(Default)]
struct UncollectedBytes(Cell<u64>);

/// Collects Lua's garbage once the snapshots since the last collection have many bytes. To Lua an unreachable
/// snapshot is a few bytes, which are not a reason to collect.
fn relieve(lua: &Lua, bytes: u64) {
    let taken = file_data::<UncollectedBytes>(lua);
    let taken = &taken.0;
    taken.set(taken.get().saturating_add(bytes));
    if taken.get() < COLLECT_AFTER {
        return;
    }
    taken.set(0);
    // Twice: the first may only end the cycle that is under way. An author's finaliser that raises is a
    // warning to Lua, and no failure of the snapshot.
    let _ = lua.gc_collect();
    let _ = lua.gc_collect();
}

/// The folder of a snapshot that another run may have taken.
fn saved_before(lua: &Lua, args: &Args) -> std::result::Result<Utf8PathBuf, LuaError> {
    let given = args.value(0);
    let path = text_of(&given).map_err(|_| {
        LuaError::argument(format!(
            "needs a snapshot or the path of its folder, got {}",
            shown(&given)
        ))
    })?;
    let folder = host_path(lua, &path)?;
    // No two snapshots have the same file of this name.
    record_read(lua, &folder.join(SNAPSHOT_SEAL));
    Ok(folder)
}
