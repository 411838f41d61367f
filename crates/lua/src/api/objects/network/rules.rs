//! What a test does to the frames of a bridge: partitions, isolation, impairments.
//!
//! | value | a number is | a string is |
//! |---|---|---|
//! | `add_latency(ms)`, `{ms = …}` | milliseconds, as the name says | a duration: `"20ms"` |
//! | `impair{latency = …, jitter = …}` | seconds, as durations are everywhere else | a duration |
//! | `drop_rate(pct)`, `{p = …}`, and `loss`, `duplicate`, `reorder`, `corrupt` of `impair` | percent | |
//! | `bandwidth_limit(bits_per_s)`, `{bps = …}`, `impair{rate = …}` | bits per second | the same with `K`, `M` or `G`, powers of 1000 |
//! | `impair{queue = …}` | bytes | a size: `"64K"`, powers of 1024 |
//!
//! Each call sets what the whole bridge, or the paths that it names, has from then on; 0 ends it. What is set for
//! different paths is combined where a pair belongs to several.

use super::handles::BridgeObject;
use super::members::{member_name, member_names, paths_of};
use crate::binding::args::Args;
use crate::binding::class::Class;
use crate::binding::options::{Options, list_of};
use crate::binding::preview::shown;
use crate::binding::raise::LuaError;
use crate::binding::values::{bit_rate_of, delay_of, milliseconds_of, number_of, percent_of};
use mlua::{Lua, Result, Table, Value};
use provium_lab::{Bridge, Impairment, MemberPaths, Partition, PathReport, PortDrops, Probability};
use std::time::Duration;

/// The options that make an impairment.
pub(super) const IMPAIRMENTS: [&str; 9] = [
    "latency",
    "jitter",
    "loss",
    "burst",
    "duplicate",
    "reorder",
    "corrupt",
    "rate",
    "queue",
];

/// Adds the methods.
pub(super) fn add(class: Class<'_, BridgeObject>) -> Result<Class<'_, BridgeObject>> {
    class
        .with(partitions)?
        .with(isolation)?
        .with(impairing)?
        .with(reading)
}

fn partitions(class: Class<'_, BridgeObject>) -> Result<Class<'_, BridgeObject>> {
    class
        .async_method("partition", |_, BridgeObject(bridge), args| async move {
            let partition = partition_of(&bridge, &args)?;
            Ok(bridge.rules().partition(&partition).await?)
        })?
        .async_method("unpartition", |_, BridgeObject(bridge), args| async move {
            let partition = partition_of(&bridge, &args)?;
            Ok(bridge.rules().unpartition(&partition).await?)
        })?
        .async_method("partition_all", |_, this, _| async move {
            Ok(this.0.rules().partition_all().await?)
        })?
        .async_method("restore_all", |_, this, _| async move {
            Ok(this.0.rules().restore_all().await?)
        })?
        .async_method(
            "partition_groups",
            |_, BridgeObject(bridge), args| async move {
                let groups = groups_of(&bridge, &args.value(0))?;
                Ok(bridge.rules().partition_groups(&groups).await?)
            },
        )?
        .async_method(
            "is_partitioned",
            |_, BridgeObject(bridge), args| async move {
                let (from, to) = pair_of(&bridge, &args)?;
                Ok(bridge.rules().is_partitioned(&from, &to).await?)
            },
        )
}

fn isolation(class: Class<'_, BridgeObject>) -> Result<Class<'_, BridgeObject>> {
    class
        .async_method("isolate", |_, BridgeObject(bridge), args| async move {
            let member = member_name(&bridge, &args.value(0))?;
            Ok(bridge.rules().isolate(&member).await?)
        })?
        .async_method("unisolate", |_, BridgeObject(bridge), args| async move {
            let member = member_name(&bridge, &args.value(0))?;
            Ok(bridge.rules().unisolate(&member).await?)
        })?
        .async_method("is_isolated", |_, BridgeObject(bridge), args| async move {
            let member = member_name(&bridge, &args.value(0))?;
            Ok(bridge.rules().is_isolated(&member).await?)
        })?
        .async_method("reset", |_, this, _| async move {
            Ok(this.0.rules().reset().await?)
        })
}

/// A call that sets one field of an impairment.
#[derive(Clone, Copy)]
struct Setter {
    call: &'static str,
    /// The option of the form with a table.
    key: &'static str,
    /// Whether it is for a single directed pair only.
    is_directional: bool,
    read: fn(&Value) -> std::result::Result<Impairment, String>,
}

const SETTERS: [Setter; 5] = [
    Setter {
        call: "add_latency",
        key: "ms",
        is_directional: false,
        read: latency,
    },
    Setter {
        call: "drop_rate",
        key: "p",
        is_directional: false,
        read: loss,
    },
    Setter {
        call: "bandwidth_limit",
        key: "bps",
        is_directional: false,
        read: rate,
    },
    Setter {
        call: "add_directional_latency",
        key: "ms",
        is_directional: true,
        read: latency,
    },
    Setter {
        call: "directional_drop_rate",
        key: "p",
        is_directional: true,
        read: loss,
    },
];

impl Setter {
    fn arguments(
        self,
        bridge: &Bridge,
        args: &Args,
    ) -> std::result::Result<(MemberPaths, Impairment), LuaError> {
        let value = args.value(0);
        let Value::Table(_) = value else {
            if self.is_directional {
                let text = format!(
                    "needs a table {{from = …, to = …, {} = …}}, got {}",
                    self.key,
                    shown(&value)
                );
                return Err(LuaError::argument(text));
            }
            let impairment = (self.read)(&value);
            let impairment =
                impairment.map_err(|why| LuaError::argument(format!("the value: {why}")))?;
            return Ok((MemberPaths::default(), impairment));
        };
        let options = args.options(0, &["from", "to", self.key])?;
        let needed = |key: &str| {
            let missing = || LuaError::argument(format!("option `{key}` is missing"));
            options.value(key).ok_or_else(missing)
        };
        if self.is_directional {
            needed("from")?;
            needed("to")?;
        }
        let impairment = (self.read)(needed(self.key)?);
        let impairment = impairment
            .map_err(|why| LuaError::argument(format!("option `{}`: {why}", self.key)))?;
        Ok((paths_of(bridge, &options)?, impairment))
    }
}

fn latency(value: &Value) -> std::result::Result<Impairment, String> {
    Ok(Impairment {
        latency: Some(milliseconds_of(value)?),
        ..Impairment::default()
    })
}

fn loss(value: &Value) -> std::result::Result<Impairment, String> {
    Ok(Impairment {
        loss: Some(share_of(value)?),
        ..Impairment::default()
    })
}

fn rate(value: &Value) -> std::result::Result<Impairment, String> {
    Ok(Impairment {
        rate: Some(bit_rate_of(value)?),
        ..Impairment::default()
    })
}

fn share_of(value: &Value) -> std::result::Result<Probability, String> {
    let percent = percent_of(value)?;
    Probability::percent(percent).ok_or_else(|| format!("{percent} is not a percentage"))
}

fn impairing(mut class: Class<'_, BridgeObject>) -> Result<Class<'_, BridgeObject>> {
    for setter in SETTERS {
        class = class.async_method(
            setter.call,
            move |_, BridgeObject(bridge), args| async move {
                let (paths, impairment) = setter.arguments(&bridge, &args)?;
                let call = format!("{}()", setter.call);
                Ok(bridge.rules().impair(&call, &paths, impairment).await?)
            },
        )?;
    }
    class.async_method("impair", |_, BridgeObject(bridge), args| async move {
        let table = args.table(0, "the impairment")?;
        let known = [&["from", "to"][..], &IMPAIRMENTS].concat();
        let options = Options::read(&table, &known)?;
        if !IMPAIRMENTS.iter().any(|key| options.has(key)) {
            let text = format!("say what to do: one of {}", IMPAIRMENTS.join(", "));
            return Err(LuaError::argument(text));
        }
        let paths = paths_of(&bridge, &options)?;
        let impairment = impairment_of(&options)?;
        Ok(bridge
            .rules()
            .impair("impair()", &paths, impairment)
            .await?)
    })
}

/// The impairment in the options of that name.
pub(super) fn impairment_of(options: &Options) -> std::result::Result<Impairment, LuaError> {
    Ok(Impairment {
        latency: options.read_with("latency", delay_of)?,
        jitter: options.read_with("jitter", delay_of)?,
        loss: options.read_with("loss", share_of)?,
        burst: options.read_with("burst", burst_of)?,
        duplicate: options.read_with("duplicate", share_of)?,
        reorder: options.read_with("reorder", share_of)?,
        corrupt: options.read_with("corrupt", share_of)?,
        rate: options.read_with("rate", bit_rate_of)?,
        queue: options.size("queue")?,
    })
}

fn burst_of(value: &Value) -> std::result::Result<f64, String> {
    let burst = number_of(value)?;
    if !(1.0..=1e6).contains(&burst) {
        return Err(format!(
            "must be the mean length of a burst of losses, 1 to 1000000 frames, got {}",
            shown(value)
        ));
    }
    Ok(burst)
}

fn reading(class: Class<'_, BridgeObject>) -> Result<Class<'_, BridgeObject>> {
    class
        .async_method("latency_ms", |_, this, args| async move {
            let found = impairment_on(&this.0, &args, "latency_ms()").await?;
            Ok(found.latency.unwrap_or_default().as_secs_f64() * 1000.0)
        })?
        .async_method("drop_rate_pct", |_, this, args| async move {
            let found = impairment_on(&this.0, &args, "drop_rate_pct()").await?;
            Ok(percentage(found.loss.unwrap_or_default()))
        })?
        .async_method("bandwidth_bps", |_, this, args| async move {
            let found = impairment_on(&this.0, &args, "bandwidth_bps()").await?;
            Ok(found.rate)
        })?
        .async_method("impairments", |lua, this, _| async move {
            let list = lua.create_table()?;
            let found = this.0.rules().impairments().await?;
            for (index, (paths, impairment)) in found.iter().enumerate() {
                list.raw_set(index + 1, impairment_table(&lua, paths, impairment)?)?;
            }
            Ok(list)
        })?
        .async_method("counters", |lua, BridgeObject(bridge), args| async move {
            if args.has(0) {
                let path = path_of(&bridge, &args).await?;
                return Ok(counters_table(&lua, &path)?);
            }
            let counters = bridge.counters().await?;
            let list = lua.create_table()?;
            for path in &counters.paths {
                list.raw_push(counters_table(&lua, path)?)?;
            }
            for port in &counters.ports {
                push_port_drops(&lua, &list, port)?;
            }
            Ok(list)
        })
}

/// What is set for the whole bridge, or, with two members, all that applies from the one to the other.
async fn impairment_on(
    bridge: &Bridge,
    args: &Args,
    call: &str,
) -> std::result::Result<Impairment, LuaError> {
    if args.has(0) {
        return Ok(path_of(bridge, args).await?.impairment);
    }
    let whole = MemberPaths::default();
    Ok(bridge.rules().impairment(call, &whole).await?)
}

async fn path_of(bridge: &Bridge, args: &Args) -> std::result::Result<PathReport, LuaError> {
    let (from, to) = pair_of(bridge, args)?;
    let mut paths = bridge.counters().await?.paths.into_iter();
    let found = paths.find(|path| path.from == from && path.to == to);
    found.ok_or_else(|| {
        LuaError::argument(format!(
            "it has no path from `{from}` to `{to}`; its members are {}",
            bridge.members().join(", ")
        ))
    })
}

/// As a percentage, with the digits that it was given with.
fn percentage(share: Probability) -> f64 {
    (share.as_percent() * 1e6).round() / 1e6
}

/// In the keys and units of `impair`.
fn impairment_table(lua: &Lua, paths: &MemberPaths, impairment: &Impairment) -> Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("from", paths.from.as_deref())?;
    table.raw_set("to", paths.to.as_deref())?;
    for (key, time) in [
        ("latency", impairment.latency),
        ("jitter", impairment.jitter),
    ] {
        table.raw_set(key, time.as_ref().map(Duration::as_secs_f64))?;
    }
    for (key, share) in [
        ("loss", impairment.loss),
        ("duplicate", impairment.duplicate),
        ("reorder", impairment.reorder),
        ("corrupt", impairment.corrupt),
    ] {
        table.raw_set(key, share.map(percentage))?;
    }
    table.raw_set("burst", impairment.burst)?;
    table.raw_set("rate", impairment.rate)?;
    table.raw_set("queue", impairment.queue)?;
    Ok(table)
}

/// `dropped` is the sum, `drops` has it by reason: `{partition = 3, loss = 1}`.
fn counters_table(lua: &Lua, path: &PathReport) -> Result<Table> {
    let table = lua.create_table()?;
    let counters = &path.counters;
    table.raw_set("from", path.from.as_str())?;
    table.raw_set("to", path.to.as_str())?;
    table.raw_set("entered", counters.entered)?;
    table.raw_set("delivered", counters.delivered)?;
    table.raw_set("dropped", counters.dropped())?;
    table.raw_set("delayed", counters.delayed)?;
    table.raw_set("duplicated", counters.duplicated)?;
    table.raw_set("corrupted", counters.corrupted)?;
    table.raw_set("reordered", counters.reordered)?;
    let drops = lua.create_table()?;
    for (reason, count) in counters.drops() {
        drops.raw_set(reason.name().replace(' ', "_"), count)?;
    }
    table.raw_set("drops", drops)?;
    Ok(table)
}

/// Frames that were dropped at a port, in entries without `to` or without `from`.
fn push_port_drops(lua: &Lua, list: &Table, port: &PortDrops) -> Result<()> {
    for (side, reason, count) in [
        ("from", "at_sender", port.at_sender),
        ("to", "at_receiver", port.at_receiver),
    ] {
        if count == 0 {
            continue;
        }
        let drops = lua.create_table()?;
        drops.raw_set(reason, count)?;
        let entry = lua.create_table()?;
        entry.raw_set(side, port.member.as_str())?;
        entry.raw_set("dropped", count)?;
        entry.raw_set("drops", drops)?;
        list.raw_push(entry)?;
    }
    Ok(())
}

/// Two members.
fn pair_of(bridge: &Bridge, args: &Args) -> std::result::Result<(String, String), LuaError> {
    Ok((
        member_name(bridge, &args.value(0))?,
        member_name(bridge, &args.value(1))?,
    ))
}

/// `(a, b)`, `{from =, to =}` or `{a, b}`.
fn partition_of(bridge: &Bridge, args: &Args) -> std::result::Result<Partition, LuaError> {
    match args.value(0) {
        Value::Table(table) => partition_in(bridge, &table),
        _ => {
            let (a, b) = pair_of(bridge, args)?;
            Ok(Partition::Pair(a, b))
        }
    }
}

/// `{from =, to =}` or `{a, b}`.
pub(super) fn partition_in(
    bridge: &Bridge,
    table: &Table,
) -> std::result::Result<Partition, LuaError> {
    if table.raw_len() > 0 {
        let names = member_names(bridge, &Value::Table(table.clone()))?;
        return match <[String; 2]>::try_from(names) {
            Ok([a, b]) => Ok(Partition::Pair(a, b)),
            Err(names) => Err(LuaError::argument(format!(
                "a partition is between two members, got {}; for more, use partition_groups",
                names.len()
            ))),
        };
    }
    let options = Options::read(table, &["from", "to"])?;
    let paths = paths_of(bridge, &options)?;
    if paths == MemberPaths::default() {
        let text = "give `from` or `to`: {from = …, to = …}; for all members, use partition_all";
        return Err(LuaError::argument(text));
    }
    Ok(Partition::Paths(paths))
}

/// A list of lists of members.
pub(super) fn groups_of(
    bridge: &Bridge,
    value: &Value,
) -> std::result::Result<Vec<Vec<String>>, LuaError> {
    let form = || {
        let text = format!(
            "the groups: must be a list of lists, as in {{{{a, b}}, {{c}}}}, got {}",
            shown(value)
        );
        LuaError::argument(text)
    };
    let Value::Table(list) = value else {
        return Err(form());
    };
    let groups = list_of(list)?;
    if groups.len() < 2 {
        return Err(LuaError::argument("the groups: there must be at least two"));
    }
    let groups = groups.iter().map(|group| match group {
        Value::Table(_) => member_names(bridge, group),
        _ => Err(form()),
    });
    groups.collect()
}
