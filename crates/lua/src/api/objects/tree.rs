//! Directories, copied with all that is in them.

use super::handles::HasSurface;
use super::paths::{host_path, host_source};
use crate::api::globals::{record_tree, record_write};
use crate::binding::class::Class;
use mlua::{Lua, Result, Table};
use provium_lab::TreeSummary;

/// Adds the operations.
pub(super) fn add<T: HasSurface>(class: Class<'_, T>) -> Result<Class<'_, T>> {
    class
        .async_method("push_dir", |lua, this, args| async move {
            let given = args.text(0, "the host path")?;
            let guest = args.path(1, "the guest path")?;
            let options = args.options(2, &["auto_dep"])?;
            let counts = options.boolean("auto_dep")? != Some(false);
            let host = host_source(&lua, &given, counts)?;
            if counts {
                record_tree(&lua, &host);
            }
            let summary = provium_lab::push_dir(&this.surface(), &host, &guest).await?;
            Ok(summary_table(&lua, &summary)?)
        })?
        .async_method("pull_dir", |lua, this, args| async move {
            let guest = args.path(0, "the guest path")?;
            let host = host_path(&lua, &args.text(1, "the host path")?)?;
            record_write(&lua, &host);
            let summary = provium_lab::pull_dir(&this.surface(), &guest, &host).await?;
            Ok(summary_table(&lua, &summary)?)
        })
}

/// `{files, directories, links, bytes, skipped = {path, …}}`.
fn summary_table(lua: &Lua, summary: &TreeSummary) -> Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("files", summary.files)?;
    table.raw_set("directories", summary.directories)?;
    table.raw_set("links", summary.links)?;
    table.raw_set("bytes", summary.bytes)?;
    let skipped = summary.skipped.iter().map(|path| lua.create_string(path));
    let skipped = skipped.collect::<Result<Vec<_>>>()?;
    table.raw_set("skipped", lua.create_sequence_from(skipped)?)?;
    Ok(table)
}
