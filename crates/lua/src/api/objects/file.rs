//! Files that stay open: `open_file()`.

use super::stream;
use super::value::{self, as_object, call_site};
use crate::binding::args::Args;
use crate::binding::class::{Class, Object};
use crate::binding::raise::LuaError;
use mlua::{Lua, Result, Value};
use provium_lab::{File, LabClone, Whence};

/// An open file as Lua holds it.
#[derive(Clone)]
pub(super) struct FileObject(File);

impl Object for FileObject {
    const CLASS: &'static str = "file";
    fn subject(&self) -> String {
        self.0.subject()
    }
    fn resolve_in(&self, copy: &LabClone) -> Self {
        Self(copy.file(&self.0))
    }
    fn describe(&self) -> String {
        value::describe_handle(self.0.subject(), self.0.is_closed())
    }
}

/// The Lua value of a file.
pub(super) fn value(lua: &Lua, file: File) -> Result<Value> {
    value::of(lua, file.id(), || FileObject(file))
}

/// What names a descriptor: a file that is open, or a number.
pub(super) enum Descriptor {
    File(File),
    Number(i64),
}

/// The descriptor that the argument names.
pub(super) fn descriptor(args: &Args, index: usize) -> std::result::Result<Descriptor, LuaError> {
    match as_object::<FileObject>(&args.value(index)) {
        // Its number would be 0, which is another file's.
        Some(file) if file.0.is_closed() => Err(LuaError::argument("file is closed")),
        Some(file) => Ok(Descriptor::File(file.0.clone())),
        None => args
            .integer(index, "the descriptor (or file)")
            .map(Descriptor::Number),
    }
}

/// Makes the class.
pub(super) fn install(lua: &Lua) -> Result<()> {
    Class::<FileObject>::new(lua)?
        .async_method("read", |lua, this, args| async move {
            let count = args.unsigned(0, "the number of bytes")?;
            Ok(lua.create_string(this.0.read(count).await?)?)
        })?
        .async_method("read_all", |lua, this, _| async move {
            Ok(lua.create_string(this.0.read_all().await?)?)
        })?
        .async_method("write", |_, this, args| async move {
            Ok(this.0.write(&args.bytes(0, "the data")?).await?)
        })?
        .async_method("seek", |_, this, args| async move {
            let offset = args.integer(0, "the offset")?;
            let whence = match args.opt_text(1, "from where")?.as_deref() {
                None | Some("set") => Whence::Set,
                Some("cur") => Whence::Current,
                Some("end") => Whence::End,
                Some(other) => {
                    let text =
                        format!("from where: must be \"set\", \"cur\" or \"end\", got `{other}`");
                    return Err(LuaError::argument(text));
                }
            };
            Ok(this.0.seek(offset, whence).await?)
        })?
        .async_method("tell", |_, this, _| async move { Ok(this.0.tell().await?) })?
        .async_method("fd", |_, this, _| async move { Ok(this.0.fd().await) })?
        .async_method("tail_stream", |lua, this, _| async move {
            let (scope, site) = call_site(&lua);
            let tail = this.0.tail_stream(&scope, site).await?;
            Ok(stream::value(&lua, tail)?)
        })?
        .async_method(
            "close",
            |_, this, _| async move { Ok(this.0.close().await?) },
        )?
        .finish()
}
