//! Power cuts: `disk:power_cut()`, `vm:power_cut()`; and what is recorded of a disk's writes.

use super::handles::DiskObject;
use crate::api::objects::handles::VmObject;
use crate::binding::args::Args;
use crate::binding::class::Class;
use crate::binding::preview::shown;
use crate::binding::raise::LuaError;
use crate::engine::test_file::TestFileState;
use mlua::{Lua, Result, Table};
use provium_lab::{Keep, LogEntry, LogKind, LogMark, PowerCut, PowerLoss};

/// `disk:power_cut()`, `disk:mark()`, `disk:writes()`.
pub(super) fn add(class: Class<'_, DiskObject>) -> Result<Class<'_, DiskObject>> {
    class
        .async_method("power_cut", |lua, this, args| async move {
            let loss = this.0.power_cut(cut_of(&lua, &args)?).await?;
            Ok(loss_table(&lua, &loss)?)
        })?
        .method("is_on", |_, this, _| Ok(this.0.is_on()))?
        .method("mark", |_, this, _| Ok(this.0.mark()?.0))?
        .method("writes", |lua, this, args| {
            let since = match args.has(0) {
                true => log_mark(Some(args.unsigned(0, "the mark")?)),
                false => None,
            };
            let log = this.0.writes(since)?;
            let list = lua.create_table()?;
            for entry in &log.entries {
                list.push(entry_table(lua, entry)?)?;
            }
            list.raw_set("was_cut", log.was_cut)?;
            Ok(list)
        })
}

/// A mark, as Lua holds it.
pub(super) fn log_mark(number: Option<u64>) -> Option<LogMark> {
    number.map(LogMark)
}

fn entry_table(lua: &Lua, entry: &LogEntry) -> Result<Table> {
    let table = lua.create_table()?;
    let (kind, sectors) = match entry.kind {
        LogKind::Write { first, count } => ("write", Some((first, count))),
        LogKind::Zeroes { first, count } => ("zeroes", Some((first, count))),
        LogKind::Discard { first, count } => ("discard", Some((first, count))),
        LogKind::Flush => ("flush", None),
        LogKind::PowerCut => ("power_cut", None),
    };
    table.raw_set("sequence", entry.sequence)?;
    table.raw_set("kind", kind)?;
    if let Some((first, count)) = sectors {
        table.raw_set("first", first)?;
        table.raw_set("count", count)?;
    }
    table.raw_set("durable", entry.fua)?;
    table.raw_set("lost", entry.lost)?;
    Ok(table)
}

/// `vm:power_cut()`: what each disk has lost, by its id.
pub(super) fn of_vm(class: Class<'_, VmObject>) -> Result<Class<'_, VmObject>> {
    class.async_method("power_cut", |lua, this, args| async move {
        let cut = cut_of(&lua, &args)?;
        let table = lua.create_table()?;
        for (id, loss) in this.0.power().power_cut(cut).await? {
            table.raw_set(id, loss_table(&lua, &loss)?)?;
        }
        Ok(table)
    })
}

/// The options of a power cut. What is left to chance follows from the run's seed, unless a seed is given.
fn cut_of(lua: &Lua, args: &Args) -> std::result::Result<PowerCut, LuaError> {
    let options = args.options(0, &["seed", "keep"])?;
    let keep = options.read_with("keep", |value| match value.as_string() {
        Some(text) if text == "none" => Ok(Keep::None),
        Some(text) if text == "random" => Ok(Keep::Random),
        Some(text) if text == "torn" => Ok(Keep::Torn),
        _ => Err(format!(
            "must be \"none\", \"random\" or \"torn\", got {}",
            shown(value)
        )),
    })?;
    Ok(PowerCut {
        keep: keep.unwrap_or(Keep::None),
        seed: seed_of(lua, options.integer("seed")?),
    })
}

/// The seed of what is left to chance: all 64 bits of the one that is given, or the run's. What a fixture keeps must
/// not depend on the run that happened to build it.
pub(super) fn seed_of(lua: &Lua, given: Option<i64>) -> u64 {
    let lab = &TestFileState::of(lua).lab;
    match given {
        Some(seed) => seed.cast_unsigned(),
        None if lab.recorder().is_some() => 0,
        None => lab.environment().seed(),
    }
}

/// How many writes were lost, kept and torn.
fn loss_table(lua: &Lua, loss: &PowerLoss) -> Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("dropped", loss.dropped)?;
    table.raw_set("kept", loss.kept)?;
    table.raw_set("torn", loss.torn)?;
    Ok(table)
}
