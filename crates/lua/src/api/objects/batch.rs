//! Batches: a function records operations, and one round trip carries them out.

use super::command::{self, RunMode};
use super::handles::{HasSurface, VmObject, WorkerObject};
use super::metadata::{entries_table, stat_table};
use super::syscall_result;
use super::value::as_object;
use super::{result, syscall};
use crate::binding::class::{Class, Object, async_function, object, raw_function};
use crate::binding::raise::LuaError;
use crate::engine::test_file::TestFileState;
use mlua::{IntoLua, Lua, Result, Table, Value};
use provium_lab::{BatchEntry, BatchOutcome, GuestOps, Op};
use serde_bytes::ByteBuf;
use std::cell::RefCell;
use std::rc::Rc;

/// The operations, in order; `None` once they are being carried out.
#[derive(Clone)]
struct Recorder(Rc<RefCell<Option<Vec<BatchEntry>>>>);

impl Object for Recorder {
    const CLASS: &'static str = "batch";
    fn subject(&self) -> String {
        "batch".to_owned()
    }
}

impl Recorder {
    fn new() -> Self {
        Self(Rc::new(RefCell::new(Some(Vec::new()))))
    }

    fn add(&self, op: Op) -> std::result::Result<(), LuaError> {
        self.push(BatchEntry::Op(op))
    }

    fn push(&self, entry: BatchEntry) -> std::result::Result<(), LuaError> {
        match &mut *self.0.borrow_mut() {
            Some(entries) => entries.push(entry),
            None => {
                return Err(LuaError::argument(
                    "the batch is over: its function has returned",
                ));
            }
        }
        Ok(())
    }
}

/// Adds `batch`, which the prelude carries out: it calls back into the author's function.
pub(super) fn add<T: HasSurface>(class: Class<'_, T>) -> Result<Class<'_, T>> {
    let function = TestFileState::of(class.lua()).prelude.method("batch")?;
    class.lua_method("batch", &function)
}

/// Makes the recorder's class, and what the prelude calls.
pub(super) fn install(lua: &Lua, native: &Table) -> Result<()> {
    Class::<Recorder>::new(lua)?.with(recorded)?.finish()?;
    native.raw_set(
        "batch_recorder",
        raw_function(lua, "batch", |lua, args| {
            surface_of(&args.value(0))?;
            Ok(object(lua, Recorder::new())?)
        })?,
    )?;
    let run = async_function(lua, "batch", true, |lua, args| async move {
        let surface = surface_of(&args.value(0))?;
        let recorder = as_object::<Recorder>(&args.value(1));
        let entries = recorder.and_then(|recorder| recorder.0.take());
        let outcomes = surface.batch(entries.unwrap_or_default()).await?;
        let list = lua.create_table_with_capacity(outcomes.len(), 0)?;
        for (index, outcome) in outcomes.into_iter().enumerate() {
            let entry = lua.create_table()?;
            match outcome {
                Ok(outcome) => entry.raw_set("ok", outcome_value(&lua, outcome)?)?,
                Err(error) => entry.raw_set("err", error.to_string())?,
            }
            list.raw_set(index + 1, entry)?;
        }
        Ok(list)
    })?;
    native.raw_set("batch_run", run)
}

fn surface_of(value: &Value) -> std::result::Result<GuestOps, LuaError> {
    let vm = as_object::<VmObject>(value).map(|vm| vm.surface());
    let surface = vm.or_else(|| as_object::<WorkerObject>(value).map(|worker| worker.surface()));
    surface.ok_or_else(|| {
        LuaError::argument("needs a vm or a worker before its arguments (call it with `:`)")
    })
}

fn recorded(class: Class<'_, Recorder>) -> Result<Class<'_, Recorder>> {
    class
        .method("run", |_, this, args| {
            let (spec, timeout) = command::read(args, RunMode::Foreground)?;
            if timeout.is_some() {
                return Err(LuaError::argument(
                    "option `timeout` is not for commands of a batch",
                ));
            }
            this.push(BatchEntry::Run(spec))
        })?
        .method("read_file", |_, this, args| {
            this.add(Op::ReadFile {
                path: args.path(0, "the path")?,
                inline: true,
            })
        })?
        .method("write_file", |_, this, args| {
            let options = args.options(2, &["perm", "append"])?;
            this.add(Op::WriteFile {
                path: args.path(0, "the path")?,
                content: Some(ByteBuf::from(args.bytes(1, "the data")?)),
                perm: options.perm("perm")?,
                append: options.flag("append")?,
            })
        })?
        .method("stat", |_, this, args| {
            this.add(Op::Stat {
                path: args.path(0, "the path")?,
            })
        })?
        .method("listdir", |_, this, args| {
            this.add(Op::ListDir {
                path: args.path(0, "the path")?,
            })
        })?
        .method("mkdir", |_, this, args| {
            let options = args.options(1, &["parents", "perm"])?;
            this.add(Op::MakeDir {
                path: args.path(0, "the path")?,
                parents: options.flag("parents")?,
                perm: options.perm("perm")?,
            })
        })?
        .method("unlink", |_, this, args| {
            this.add(Op::Unlink {
                path: args.path(0, "the path")?,
            })
        })?
        .method("rename", |_, this, args| {
            let (from, to) = (args.path(0, "the path")?, args.path(1, "the new path")?);
            this.add(Op::Rename { from, to })
        })?
        .method("syscall", |_, this, args| {
            this.add(Op::Syscall(syscall::read(args)?))
        })
}

fn outcome_value(lua: &Lua, outcome: BatchOutcome) -> Result<Value> {
    match outcome {
        BatchOutcome::Run(ran) => result::value(lua, ran),
        BatchOutcome::Bytes(bytes) => Ok(Value::String(lua.create_string(bytes)?)),
        BatchOutcome::Count(count) => count.into_lua(lua),
        BatchOutcome::Stat(stat) => stat_table(lua, &stat)?.into_lua(lua),
        BatchOutcome::Entries(entries) => entries_table(lua, &entries)?.into_lua(lua),
        BatchOutcome::Done => Ok(Value::Boolean(true)),
        BatchOutcome::Syscall(made) => syscall_result::table(lua, &made)?.into_lua(lua),
    }
}
