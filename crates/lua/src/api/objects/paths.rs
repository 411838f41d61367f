//! Operations on the guest's files by path.

use super::metadata::{entries_table, stat_table};
use super::surface::HasSurface;
use crate::binding::class::Class;
use crate::binding::raise::Raise;
use crate::binding::stack;
use crate::engine::test_file::FileState;
use crate::fixture::{note_file, note_mode, note_written};
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
        .waits("read_file", |lua, this, args| async move {
            let path = args.path(0, "the path")?;
            let content = this.surface().read_file(&path).await?;
            Ok(lua.create_string(content)?)
        })?
        .waits("write_file", |_, this, args| async move {
            let path = args.path(0, "the path")?;
            let content = args.bytes(1, "the data")?;
            let options = args.options(2, &["perm", "append"])?;
            let mode = WriteMode {
                perm: options.perm("perm")?,
                append: options.flag("append")?,
            };
            Ok(this.surface().write_file(&path, &content, mode).await?)
        })?
        .waits("push_file", |lua, this, args| async move {
            let given = args.text(0, "the host path")?;
            let guest = args.path(1, "the guest path")?;
            let options = args.options(2, &["perm", "auto_dep"])?;
            let counts = options.boolean("auto_dep")? != Some(false);
            let perm = options.perm("perm")?;
            let host = host_source(&lua, &given, counts)?;
            if counts {
                note_file(&lua, &host);
                if perm.is_none() {
                    note_mode(&lua, &host);
                }
            }
            Ok(this.surface().push_file(&host, &guest, perm).await?)
        })?
        .waits("pull_file", |lua, this, args| async move {
            let guest = args.path(0, "the guest path")?;
            let host = host_path(&lua, &args.text(1, "the host path")?);
            note_written(&lua, &host);
            Ok(this.surface().pull_file(&guest, &host).await?)
        })
}

/// A file of the host that is to be read. A relative path is looked for beside the file whose code makes
/// the call, then where the test file's own path is relative to. Where it `counts`, a build is told of the
/// place that was looked at in vain.
pub(super) fn host_source(
    lua: &Lua,
    path: &str,
    counts: bool,
) -> std::result::Result<Utf8PathBuf, Raise> {
    let in_root = host_path(lua, path);
    let beside = stack::place(lua)
        .and_then(|site| folder_of(&FileState::of(lua), &site.file))
        .map(|folder| folder.join(path));
    let Some(beside) = beside.filter(|beside| *beside != in_root) else {
        return Ok(in_root);
    };
    if beside.exists() {
        return Ok(beside);
    }
    if !in_root.exists() {
        return Err(Raise::argument(format!(
            "`{path}` is neither beside the file that asks for it (`{beside}`) nor in the root \
             (`{in_root}`): No such file or directory"
        )));
    }
    if counts {
        note_file(lua, &beside);
    }
    Ok(in_root)
}

/// The folder of an author's file, by the name that its chunk has.
fn folder_of(state: &FileState, file: &str) -> Option<Utf8PathBuf> {
    let roots = std::iter::once(&state.base).chain(&state.package_roots);
    let mut paths = roots.map(|root| root.join(file));
    let path = paths.find(|path| path.is_file())?;
    path.parent().map(Utf8Path::to_owned)
}

/// A path of the host; a relative one is relative to what the test file's own path is relative to.
pub(super) fn host_path(lua: &Lua, path: &str) -> Utf8PathBuf {
    FileState::of(lua).base.join(path)
}

fn names<T: HasSurface>(class: Class<'_, T>) -> Result<Class<'_, T>> {
    class
        .waits("stat", |lua, this, args| async move {
            let path = args.path(0, "the path")?;
            let stat = this.surface().call(Stat { path }).await?;
            Ok(stat_table(&lua, &stat)?)
        })?
        .waits("listdir", |lua, this, args| async move {
            let path = args.path(0, "the path")?;
            let entries = this.surface().call(ListDir { path }).await?;
            Ok(entries_table(&lua, &entries)?)
        })?
        .waits("mkdir", |_, this, args| async move {
            let path = args.path(0, "the path")?;
            let options = args.options(1, &["parents", "perm"])?;
            let request = MakeDir {
                path,
                parents: options.flag("parents")?,
                perm: options.perm("perm")?,
            };
            Ok(this.surface().call(request).await?)
        })?
        .waits("unlink", |_, this, args| async move {
            let path = args.path(0, "the path")?;
            Ok(this.surface().call(Unlink { path }).await?)
        })?
        .waits("rename", |_, this, args| async move {
            let (from, to) = (args.path(0, "the path")?, args.path(1, "the new path")?);
            Ok(this.surface().call(Rename { from, to }).await?)
        })?
        .waits("chmod", |_, this, args| async move {
            let path = args.path(0, "the path")?;
            let perm = args.perm(1, "the permission bits")?;
            Ok(this.surface().call(Chmod { path, perm }).await?)
        })?
        .waits("symlink", |_, this, args| async move {
            let (target, path) = (args.path(0, "the target")?, args.path(1, "the path")?);
            Ok(this.surface().call(Symlink { target, path }).await?)
        })?
        .waits("readlink", |lua, this, args| async move {
            let path = args.path(0, "the path")?;
            let target = this.surface().call(ReadLink { path }).await?;
            Ok::<_, Raise>(lua.create_string(target)?)
        })
}
