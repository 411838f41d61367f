//! Power cuts: `disk:power_cut()`, `vm:power_cut()`; and what is recorded of a disk's writes.

use super::disk_handles::DiskObject;
use super::handles::VmObject;
use crate::binding::args::Args;
use crate::binding::class::Class;
use crate::binding::raise::LuaError;
use crate::engine::test_file::TestFileState;
use mlua::{Lua, Result, Table};
use provium_lab::{Keep, PowerCut, PowerLoss};

/// `disk:power_cut()`.
pub(super) fn add(class: Class<'_, DiskObject>) -> Result<Class<'_, DiskObject>> {
    class.async_method("power_cut", |lua, this, args| async move {
        let loss = this.0.power_cut(cut_of(&lua, &args)?).await?;
        Ok(loss_table(&lua, &loss)?)
    })
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
            crate::binding::preview::shown(value)
        )),
    })?;
    Ok(PowerCut {
        keep: keep.unwrap_or(Keep::None),
        seed: seed_of(lua, options.integer("seed")?),
    })
}

/// The seed of what is left to chance: all 64 bits of the one that is given, or the run's.
pub(super) fn seed_of(lua: &Lua, given: Option<i64>) -> u64 {
    match given {
        Some(seed) => seed.cast_unsigned(),
        None => TestFileState::of(lua).lab.environment().seed(),
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
