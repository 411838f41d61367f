//! Snapshots: `vm:snapshot()`, `lab:snapshot()`.

use super::paths::host_path;
use super::value::{self, as_object, here};
use super::vm::VmObject;
use crate::args::{Args, text_of};
use crate::class::{Class, Object};
use crate::fixture::note_file;
use crate::raise::Raise;
use crate::units::shown;
use camino::Utf8PathBuf;
use mlua::{Lua, Result, Value};
use provium_lab::{Lab, LabSnapshot, Snapshot, Taken};

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
        .waits("snapshot", |lua, this, args| async move {
            let place = place(&lua, &args)?;
            let taken = this.0.snapshot(place.as_deref()).await?;
            Ok(value::of(&lua, taken.id(), || {
                SnapshotObject(taken.clone())
            })?)
        })?
        .waits("restore", |lua, this, args| async move {
            let from = match as_object::<SnapshotObject>(&args.value(0)) {
                Some(snapshot) => snapshot.0,
                None => Snapshot::open(&saved_before(&lua, &args, "vm.json")?)?,
            };
            this.0.restore(&from).await?;
            Ok(super::vm::value(&lua, &this.0)?)
        })
}

/// `lab:snapshot()`: with a folder, its path.
pub(super) async fn take_lab(
    lua: &Lua,
    lab: &Lab,
    args: &Args,
) -> std::result::Result<Value, Raise> {
    let (scope, _) = here(lua);
    let place = place(lua, args)?;
    let taken = lab.snapshot(&scope, place.as_deref()).await?;
    if place.is_some() {
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
) -> std::result::Result<(), Raise> {
    let (scope, _) = here(lua);
    let from = match as_object::<LabSnapshotObject>(&args.value(0)) {
        Some(snapshot) => snapshot.0,
        None => LabSnapshot::open(&saved_before(lua, args, "lab.json")?)?,
    };
    Ok(lab.restore(&scope, &from).await?)
}

/// The snapshot that a fixture's script returned.
pub(crate) fn taken_from(value: &Value) -> Option<Taken> {
    let vm = as_object::<SnapshotObject>(value).map(|snapshot| Taken::Vm(snapshot.0));
    vm.or_else(|| as_object::<LabSnapshotObject>(value).map(|snapshot| Taken::Lab(snapshot.0)))
}

fn place(lua: &Lua, args: &Args) -> std::result::Result<Option<Utf8PathBuf>, Raise> {
    let path = args.opt_text(0, "the folder")?;
    Ok(path.map(|path| host_path(lua, &path)))
}

/// The folder of a snapshot that another run may have taken; `facts` is its file that no two
/// snapshots have alike.
fn saved_before(lua: &Lua, args: &Args, facts: &str) -> std::result::Result<Utf8PathBuf, Raise> {
    let given = args.value(0);
    let path = text_of(&given).map_err(|_| {
        Raise::argument(format!(
            "needs a snapshot or the path of its folder, got {}",
            shown(&given)
        ))
    })?;
    let folder = host_path(lua, &path);
    note_file(lua, &folder.join(facts));
    Ok(folder)
}
