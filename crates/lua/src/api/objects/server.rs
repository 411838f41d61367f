//! Servers in the guest: waiting for them, and connections to them.

use super::command::{self, RunMode};
use super::handles::HasSurface;
use super::metadata::stat_table;
use super::value::call_site;
use super::{connection, result};
use crate::binding::args::Args;
use crate::binding::class::Class;
use crate::binding::options::Options;
use crate::binding::preview::shown;
use crate::binding::raise::LuaError;
use crate::binding::values::bytes_of;
use mlua::{IntoLuaMulti, Lua, MultiValue, Result, Value, Variadic};
use provium_lab::request::{Address, Condition, Stat};
use provium_lab::{Connection, WaitCondition, WaitLimits, WaitMatch};
use serde_bytes::ByteBuf;
use std::time::Duration;

/// How long a call waits that is given no time.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Time from one check in the guest to the next.
const INTERVAL: Duration = Duration::from_millis(50);
/// Time from the end of a command to its next start.
const COMMAND_INTERVAL: Duration = Duration::from_millis(100);
/// `ENOENT` and `ENOTDIR`, of Linux.
const ABSENT: [i32; 2] = [2, 20];

const CONDITIONS: [&str; 5] = ["file", "socket", "port", "process", "succeeds"];
const OPTIONS: &[&str] = &[
    "file", "socket", "port", "process", "succeeds", "timeout", "interval",
];

/// Adds them.
pub(super) fn add<T: HasSurface>(class: Class<'_, T>) -> Result<Class<'_, T>> {
    class
        .async_method("exists", |_, this, args| async move {
            let path = args.path(0, "the path")?;
            match this.surface().call(Stat { path }).await {
                Ok(_) => Ok(true),
                Err(error) if error.errno().is_some_and(|it| ABSENT.contains(&it)) => Ok(false),
                Err(error) => Err(error.into()),
            }
        })?
        .async_method("wait_for", |lua, this, args| async move {
            let (call, condition, limits) = wanted(&args)?;
            let found = provium_lab::wait_for(&this.surface(), call, condition, limits).await?;
            Ok(found_values(&lua, found)?)
        })?
        .async_method("connect", |lua, this, args| async move {
            let (scope, site) = call_site(&lua);
            let address = address(&args)?;
            let options = args.options(1, &["timeout"])?;
            let limit = options.duration("timeout")?.unwrap_or(TIMEOUT);
            let ops = this.surface();
            let connection = Connection::open(&ops, &scope, address, limit, site).await?;
            Ok(connection::value(&lua, connection)?)
        })?
        .async_method("forward", |lua, this, args| async move {
            let (scope, site) = call_site(&lua);
            let address = address(&args)?;
            let at = provium_lab::forward(&this.surface(), &scope, address, site).await?;
            Ok(at.to_string())
        })
}

/// A port, or `"unix:/path"`.
fn address(args: &Args) -> std::result::Result<Address, LuaError> {
    let value = args.value(0);
    let wrong = || {
        let text = format!(
            "the address: must be a port from 1 to 65535 or \"unix:/path\", got {}",
            shown(&value)
        );
        LuaError::argument(text)
    };
    match &value {
        Value::String(text) => {
            let text = text.as_bytes();
            let path = text.strip_prefix(b"unix:").ok_or_else(wrong)?;
            socket(path).map_err(LuaError::argument)
        }
        _ => port(&value).ok_or_else(wrong),
    }
}

fn port(value: &Value) -> Option<Address> {
    let number = match value {
        Value::Integer(number) => *number,
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a whole number, as checked"
        )]
        Value::Number(number) if number.fract() == 0.0 && number.abs() < 1e6 => *number as i64,
        _ => return None,
    };
    let port = u16::try_from(number).ok().filter(|port| *port > 0)?;
    Some(Address::Port(port))
}

fn socket(path: &[u8]) -> std::result::Result<Address, String> {
    if path.is_empty() || path.contains(&0) {
        return Err("the path of a socket must not be empty nor hold a zero byte".to_owned());
    }
    Ok(Address::Unix(ByteBuf::from(path)))
}

/// The call as the author wrote it, the condition, and its limits.
fn wanted(args: &Args) -> std::result::Result<(String, WaitCondition, WaitLimits), LuaError> {
    let options = Options::read(&args.table(0, "the condition")?, OPTIONS)?;
    let given: Vec<&str> = CONDITIONS
        .into_iter()
        .filter(|name| options.has(name))
        .collect();
    let &[name] = given.as_slice() else {
        let text = format!(
            "needs exactly one of {}, got {}",
            CONDITIONS.map(|name| format!("`{name}`")).join(", "),
            if given.is_empty() {
                "none".to_owned()
            } else {
                given.join(" and ")
            }
        );
        return Err(LuaError::argument(text));
    };
    let value = options.value(name).cloned().unwrap_or(Value::Nil);
    let bad = |why: String| LuaError::argument(format!("option `{name}`: {why}"));
    let bytes = || match bytes_of(&value).map_err(bad)? {
        bytes if bytes.is_empty() || bytes.contains(&0) => {
            Err(bad("must not be empty nor hold a zero byte".to_owned()))
        }
        bytes => Ok(ByteBuf::from(bytes)),
    };
    let condition = match name {
        "file" => WaitCondition::Guest(Condition::File(bytes()?)),
        "socket" => {
            let path = bytes()?;
            let path = path.strip_prefix(b"unix:").unwrap_or(&path);
            WaitCondition::Guest(Condition::Server(socket(path).map_err(bad)?))
        }
        "port" => {
            let port = port(&value).ok_or_else(|| {
                let got = shown(&value);
                bad(format!("must be a number from 1 to 65535, got {got}"))
            })?;
            WaitCondition::Guest(Condition::Server(port))
        }
        "process" => WaitCondition::Guest(Condition::Process(bytes()?)),
        _ => {
            let command = Args::new(vec![value.clone()]);
            let (spec, _) = command::read(&command, RunMode::Foreground)?;
            WaitCondition::Succeeds(Box::new(spec))
        }
    };
    let given = match &condition {
        WaitCondition::Succeeds(spec) if value.is_table() => spec.to_string(),
        _ => shown(&value),
    };
    let call = format!("wait_for{{{name} = {given}}}");
    let usual = match condition {
        WaitCondition::Guest(_) => INTERVAL,
        WaitCondition::Succeeds(_) => COMMAND_INTERVAL,
    };
    let interval = options.duration("interval")?.unwrap_or(usual);
    if interval.is_zero() {
        return Err(LuaError::argument("option `interval`: must not be 0"));
    }
    let limits = WaitLimits {
        timeout: options.duration("timeout")?.unwrap_or(TIMEOUT),
        interval,
    };
    Ok((call, condition, limits))
}

fn found_values(lua: &Lua, found: WaitMatch) -> Result<MultiValue> {
    match found {
        WaitMatch::File(stat) => stat_table(lua, &stat)?.into_lua_multi(lua),
        WaitMatch::Server => true.into_lua_multi(lua),
        WaitMatch::Processes(ids) => Variadic::from_iter(ids).into_lua_multi(lua),
        WaitMatch::Command(ran) => result::value(lua, *ran)?.into_lua_multi(lua),
    }
}
