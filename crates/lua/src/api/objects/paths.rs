//! Operations on the guest's files by path.

use super::handles::HasSurface;
use super::metadata::{entries_table, stat_table};
use crate::api::globals::{record_mode, record_read, record_write};
use crate::binding::class::Class;
use crate::binding::raise::LuaError;
use crate::binding::stack;
use crate::engine::test_file::TestFileState;
use camino::{Utf8Path, Utf8PathBuf};
use mlua::{Lua, Result};
use provium_lab::WriteMode;
use provium_lab::request::{Chmod, ListDir, MakeDir, ReadLink, Rename, Stat, Symlink, Unlink};

/// Adds them.
pub(super) fn add<T: HasSurface>(class: Class<'_, T>) -> Result<Class<'_, T>> {
    class.with(contents)?.with(names)
}

fn contents<T: HasSurface>(class: Class<'_, T>) -> Result<Class<'_, T>> {
    class
        .async_method("read_file", |lua, this, args| async move {
            let path = args.path(0, "the path")?;
            let content = this.surface().read_file(&path).await?;
            Ok(lua.create_string(content)?)
        })?
        .async_method("write_file", |_, this, args| async move {
            let path = args.path(0, "the path")?;
            let content = args.bytes(1, "the data")?;
            let options = args.options(2, &["perm", "append"])?;
            let mode = WriteMode {
                perm: options.perm("perm")?,
                append: options.flag("append")?,
            };
            Ok(this.surface().write_file(&path, &content, mode).await?)
        })?
        .async_method("push_file", |lua, this, args| async move {
            let given = args.text(0, "the host path")?;
            let guest = args.path(1, "the guest path")?;
            let options = args.options(2, &["perm", "auto_dep"])?;
            let counts = options.boolean("auto_dep")? != Some(false);
            let perm = options.perm("perm")?;
            let host = host_source(&lua, &given, counts)?;
            if counts {
                record_read(&lua, &host);
                if perm.is_none() {
                    record_mode(&lua, &host);
                }
            }
            Ok(this.surface().push_file(&host, &guest, perm).await?)
        })?
        .async_method("pull_file", |lua, this, args| async move {
            let guest = args.path(0, "the guest path")?;
            let host = host_path(&lua, &args.text(1, "the host path")?)?;
            record_write(&lua, &host);
            Ok(this.surface().pull_file(&guest, &host).await?)
        })
}

/// The path of a file of the host, for reading. A relative path is looked up in the folder of the file
/// whose code makes the call, then in the folder that the test file's own path is relative to. If it `counts`,
/// a place where it was not found is recorded as an input of the fixture that is being built.
pub(super) fn host_source(
    lua: &Lua,
    path: &str,
    counts: bool,
) -> std::result::Result<Utf8PathBuf, LuaError> {
    let in_root = host_path(lua, path)?;
    let beside = stack::place(lua)
        .and_then(|site| folder_of(&TestFileState::of(lua), &site.file))
        .map(|folder| folder.join(path));
    let Some(beside) = beside.filter(|beside| *beside != in_root) else {
        return Ok(in_root);
    };
    if beside.exists() {
        return Ok(beside);
    }
    if !in_root.exists() {
        return Err(LuaError::argument(format!(
            "`{path}` is neither beside the file that asks for it (`{beside}`) nor in the root \
             (`{in_root}`): No such file or directory"
        )));
    }
    if counts {
        record_read(lua, &beside);
    }
    Ok(in_root)
}

/// The folder of an author's file, by the name that its chunk has.
fn folder_of(state: &TestFileState, file: &str) -> Option<Utf8PathBuf> {
    let roots = [&state.shown_from, &state.base];
    let roots = roots.into_iter().chain(&state.package_roots);
    let mut paths = roots.map(|root| root.join(file));
    let path = paths.find(|path| path.is_file())?;
    path.parent().map(Utf8Path::to_owned)
}

/// A path of the host; a relative one is relative to the test file's root. An empty one would be that root itself.
pub(super) fn host_path(lua: &Lua, path: &str) -> std::result::Result<Utf8PathBuf, LuaError> {
    if path.is_empty() {
        return Err(LuaError::argument("the path on the host must not be empty"));
    }
    Ok(TestFileState::of(lua).base.join(path))
}

fn names<T: HasSurface>(class: Class<'_, T>) -> Result<Class<'_, T>> {
    class
        .async_method("stat", |lua, this, args| async move {
            let path = args.path(0, "the path")?;
            let stat = this.surface().call(Stat { path }).await?;
            Ok(stat_table(&lua, &stat)?)
        })?
        .async_method("listdir", |lua, this, args| async move {
            let path = args.path(0, "the path")?;
            let entries = this.surface().call(ListDir { path }).await?;
            Ok(entries_table(&lua, &entries)?)
        })?
        .async_method("mkdir", |_, this, args| async move {
            let path = args.path(0, "the path")?;
            let options = args.options(1, &["parents", "perm"])?;
            let request = MakeDir {
                path,
                parents: options.flag("parents")?,
                perm: options.perm("perm")?,
            };
            Ok(this.surface().call(request).await?)
        })?
        .async_method("unlink", |_, this, args| async move {
            let path = args.path(0, "the path")?;
            Ok(this.surface().call(Unlink { path }).await?)
        })?
        .async_method("rename", |_, this, args| async move {
            let (from, to) = (args.path(0, "the path")?, args.path(1, "the new path")?);
            Ok(this.surface().call(Rename { from, to }).await?)
        })?
        .async_method("chmod", |_, this, args| async move {
            let path = args.path(0, "the path")?;
            let perm = args.perm(1, "the permission bits")?;
            Ok(this.surface().call(Chmod { path, perm }).await?)
        })?
        .async_method("symlink", |_, this, args| async move {
            let (target, path) = (args.path(0, "the target")?, args.path(1, "the path")?);
            Ok(this.surface().call(Symlink { target, path }).await?)
        })?
        .async_method("readlink", |lua, this, args| async move {
            let path = args.path(0, "the path")?;
            let target = this.surface().call(ReadLink { path }).await?;
            Ok::<_, LuaError>(lua.create_string(target)?)
        })
}
