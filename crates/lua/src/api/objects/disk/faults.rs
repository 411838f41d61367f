//! The faults of a disk: `disk:fault_inject()` and its shorthands.

use super::handles::DiskObject;
use crate::binding::args::Args;
use crate::binding::class::Class;
use crate::binding::options::{Options, list_of, unknown};
use crate::binding::preview::shown;
use crate::binding::raise::LuaError;
use crate::binding::values::{count_of, delay_of, integer_of, milliseconds_of, number_of, text_of};
use mlua::{Lua, Result, Table, Value};
use provium_lab::{Disk, FaultId, FaultMode, FaultRule, SECTOR, SectorRange};

const KNOWN: &[&str] = &["mode", "sectors", "probability", "count", "after", "delay"];

/// The modes that have names for authors; `fail_after` and `delay` are methods.
const MODES: &[FaultMode] = &[
    FaultMode::EioRead,
    FaultMode::EioWrite,
    FaultMode::Eio,
    FaultMode::Slow,
    FaultMode::TornWrite,
    FaultMode::DropFlush,
    FaultMode::Corrupt,
    FaultMode::Enospc,
];

/// Methods that add a fault and could be taken for modes.
const METHODS: &[&str] = &[
    "delay",
    "fail_after",
    "fail_range",
    "fail_reads",
    "fail_writes",
];

/// Adds them.
pub(super) fn add(class: Class<'_, DiskObject>) -> Result<Class<'_, DiskObject>> {
    class.with(rules)?.with(shorthands)?.with(policy)
}

fn rules(class: Class<'_, DiskObject>) -> Result<Class<'_, DiskObject>> {
    class
        .method("fault_inject", |_, this, args| {
            let rule = match args.value(0) {
                Value::String(_) => FaultRule::new(mode_of(&args.value(0))?),
                Value::Table(table) => rule_of(&this.0, &table)?,
                other => {
                    return Err(LuaError::argument(format!(
                        "the fault: must be the name of a mode or a table with `mode`, got {}",
                        shown(&other)
                    )));
                }
            };
            inject(&this.0, rule)
        })?
        .method("clear_faults", |_, this, args| {
            if !args.has(0) {
                return Ok(this.0.clear_faults()?);
            }
            let fault = FaultId(args.unsigned(0, "the fault")?);
            if this.0.remove_fault(fault)? {
                return Ok(());
            }
            Err(LuaError::argument(format!(
                "the disk has no fault {}; `active_faults()` lists those that it has",
                fault.0
            )))
        })?
        .method("active_faults", |lua, this, _| faults_table(lua, &this.0))
}

fn shorthands(class: Class<'_, DiskObject>) -> Result<Class<'_, DiskObject>> {
    class
        .method("fail_reads", |_, this, _| {
            inject(&this.0, FaultRule::new(FaultMode::EioRead))
        })?
        .method("fail_writes", |_, this, _| {
            inject(&this.0, FaultRule::new(FaultMode::EioWrite))
        })?
        .method("fail_after", |_, this, args| {
            let number: u64 = args.unsigned(0, "the number of the command")?;
            if number == 0 {
                return Err(LuaError::argument(
                    "the number of the command: 1 is the next one, got 0",
                ));
            }
            inject(&this.0, FaultRule::new(FaultMode::FailAfter(number)))
        })?
        .method("fail_range", |_, this, args| {
            let rule = FaultRule {
                sectors: Some(range_of(&this.0, args)?),
                ..FaultRule::new(FaultMode::Eio)
            };
            inject(&this.0, rule)
        })?
        .method("delay", |_, this, args| {
            let delay = milliseconds_of(&args.value(0));
            let delay = delay.map_err(|why| LuaError::argument(format!("the delay: {why}")))?;
            let rule = FaultRule {
                delay: Some(delay),
                ..FaultRule::new(FaultMode::Delay)
            };
            inject(&this.0, rule)
        })
}

/// The same under the names of a policy: what the disk does to commands, nil if it does nothing.
fn policy(class: Class<'_, DiskObject>) -> Result<Class<'_, DiskObject>> {
    class
        .method("fault_policy", |lua, this, _| {
            let faults = faults_table(lua, &this.0)?;
            Ok((faults.raw_len() > 0).then_some(faults))
        })?
        .method("clear_policy", |_, this, _| Ok(this.0.clear_faults()?))
}

fn inject(disk: &Disk, rule: FaultRule) -> std::result::Result<u64, LuaError> {
    Ok(disk.inject(rule)?.0)
}

/// A mode by its name.
fn mode_of(value: &Value) -> std::result::Result<FaultMode, LuaError> {
    let name = text_of(value).map_err(|why| LuaError::argument(format!("the mode: {why}")))?;
    if let Some(found) = MODES.iter().find(|mode| mode.name() == name) {
        return Ok(*found);
    }
    let names = MODES.iter().map(|mode| mode.name());
    Err(LuaError::argument(match METHODS.contains(&&*name) {
        true => format!("`{name}` is not a mode but a method: call `disk:{name}(…)`"),
        false => unknown("mode", &name, names),
    }))
}

fn rule_of(disk: &Disk, table: &Table) -> std::result::Result<FaultRule, LuaError> {
    let options = Options::read(table, KNOWN)?;
    let mode = options
        .value("mode")
        .ok_or_else(|| LuaError::argument("option `mode` is missing"))?;
    let count = options.read_with("count", count_of)?;
    let mode = mode_of(mode)?;
    let sectors = options.table("sectors")?;
    if mode == FaultMode::DropFlush && sectors.is_some() {
        return Err(LuaError::argument(
            "option `sectors`: a flush is for the whole disk, so `drop_flush` takes no sectors",
        ));
    }
    let sectors = sectors.map(|list| sectors_of(disk, &list)).transpose();
    Ok(FaultRule {
        mode,
        sectors: sectors.map_err(|error| error.within("option `sectors`"))?,
        probability: options.read_with("probability", probability_of)?,
        count,
        after: options.unsigned("after")?.unwrap_or(0),
        delay: options.read_with("delay", delay_of)?,
    })
}

fn probability_of(value: &Value) -> std::result::Result<f64, String> {
    let probability = number_of(value)?;
    if (0.0..=1.0).contains(&probability) {
        return Ok(probability);
    }
    Err(format!("must be from 0 to 1, got {}", shown(value)))
}

/// `{first, last}`.
fn sectors_of(disk: &Disk, list: &Table) -> std::result::Result<SectorRange, LuaError> {
    let values = list_of(list)?;
    let [first, last] = &values[..] else {
        return Err(LuaError::argument(format!(
            "must be {{first, last}}, got {} values",
            values.len()
        )));
    };
    let sector = |value: &Value| {
        let number = integer_of(value)?;
        u64::try_from(number).map_err(|_| format!("sectors are counted from 0, got {number}"))
    };
    let range = SectorRange {
        first: sector(first).map_err(LuaError::argument)?,
        last: sector(last).map_err(LuaError::argument)?,
    };
    within(disk, range)
}

/// `(sector, count)`.
fn range_of(disk: &Disk, args: &Args) -> std::result::Result<SectorRange, LuaError> {
    let first: u64 = args.unsigned(0, "the sector")?;
    let count: u64 = args.count(1, "the count")?;
    within(
        disk,
        SectorRange {
            first,
            last: first.saturating_add(count - 1),
        },
    )
}

/// A range of the disk's sectors. A fault outside of them would never act.
fn within(disk: &Disk, range: SectorRange) -> std::result::Result<SectorRange, LuaError> {
    let SectorRange { first, last } = range;
    if last < first {
        let why = format!("the last sector, {last}, is before the first, {first}");
        return Err(LuaError::argument(why));
    }
    let sectors = disk.size()? / SECTOR;
    if last >= sectors {
        return Err(LuaError::argument(format!(
            "sector {last} is beyond the end of the disk, which has {sectors} sectors"
        )));
    }
    Ok(range)
}

/// The faults of a disk, in the keys and units of `fault_inject`, each with its number and how often it has acted.
fn faults_table(lua: &Lua, disk: &Disk) -> std::result::Result<Table, LuaError> {
    let list = lua.create_table()?;
    for (fault, rule, hits) in disk.faults()? {
        let entry = lua.create_table()?;
        entry.raw_set("fault", fault.0)?;
        entry.raw_set("mode", rule.mode.name())?;
        if let FaultMode::FailAfter(number) = rule.mode {
            entry.raw_set("number", number)?;
        }
        if let Some(SectorRange { first, last }) = rule.sectors {
            entry.raw_set("sectors", lua.create_sequence_from([first, last])?)?;
        }
        entry.raw_set("probability", rule.probability)?;
        entry.raw_set("count", rule.count)?;
        entry.raw_set("after", (rule.after > 0).then_some(rule.after))?;
        let delay = rule.delay();
        entry.raw_set("delay", (!delay.is_zero()).then_some(delay.as_secs_f64()))?;
        entry.raw_set("hits", hits)?;
        list.push(entry)?;
    }
    Ok(list)
}
