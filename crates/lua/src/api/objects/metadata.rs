//! Metadata of the guest's files as Lua tables.

use mlua::{Lua, Result, Table};
use provium_lab::{DirEntry, EntryType, FileStat};

/// `{size, mtime, mtime_ns, perm, entry_type, uid, gid, ino, nlink}`.
pub(super) fn stat_table(lua: &Lua, stat: &FileStat) -> Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("size", stat.size)?;
    let nanoseconds = whole_nanoseconds(stat.mtime, stat.mtime_ns);
    table.raw_set("mtime", seconds(stat.mtime, stat.mtime_ns))?;
    table.raw_set("mtime_ns", nanoseconds)?;
    table.raw_set("perm", stat.perm)?;
    table.raw_set("entry_type", entry_type(stat.entry_type))?;
    table.raw_set("uid", stat.uid)?;
    table.raw_set("gid", stat.gid)?;
    table.raw_set("ino", stat.ino)?;
    table.raw_set("nlink", stat.nlink)?;
    Ok(table)
}

/// A time as the agent gives it, in nanoseconds since 1970; the nearest that fits, where it does not.
fn whole_nanoseconds(seconds: i64, below: impl Into<i64>) -> i64 {
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(below.into())
}

/// The same in seconds. A float has 53 bits: for today's times it is exact to some 240 ns.
#[expect(clippy::cast_precision_loss, reason = "as documented")]
fn seconds(seconds: i64, below: impl Into<i64>) -> f64 {
    seconds as f64 + below.into() as f64 / 1e9
}

/// `{{name, entry_type}, …}`.
pub(super) fn entries_table(lua: &Lua, entries: &[DirEntry]) -> Result<Table> {
    let list = lua.create_table_with_capacity(entries.len(), 0)?;
    for (index, entry) in entries.iter().enumerate() {
        let table = lua.create_table()?;
        table.raw_set("name", lua.create_string(&entry.name)?)?;
        table.raw_set("entry_type", entry_type(entry.entry_type))?;
        list.raw_set(index + 1, table)?;
    }
    Ok(list)
}

fn entry_type(kind: EntryType) -> &'static str {
    match kind {
        EntryType::File => "file",
        EntryType::Dir => "directory",
        EntryType::Symlink => "symlink",
        EntryType::Fifo => "fifo",
        EntryType::Socket => "socket",
        EntryType::CharDevice => "char_device",
        EntryType::BlockDevice => "block_device",
        EntryType::Unknown => "other",
    }
}
