//! The forms of a command: a string, a list, a table of options.
//!
//! | call | runs |
//! |---|---|
//! | `run("text")`, `run("text", {opts})` | the shell, with the text |
//! | `run("prog", {"a", "b"})`, `run("prog", {})`, `run("prog", {args = {…}, opts})` | the program |
//! | `run({"prog", "a"}, {opts})` | the program |

use crate::binding::args::Args;
use crate::binding::options::{Options, list_of};
use crate::binding::preview::shown;
use crate::binding::raise::LuaError;
use crate::binding::values::bytes_of;
use crate::binding::values::duration_of;
use crate::text;
use mlua::{Table, Value};
use provium_lab::{CommandSpec, Program, Stdin};
use serde_bytes::ByteBuf;
use std::time::Duration;

const OPTIONS: &[&str] = &[
    "args",
    "env",
    "env_clear",
    "cwd",
    "stdin",
    "timeout",
    "timeout_ms",
    "user",
    "tty",
    "max_output",
];

/// What is to wait for the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunMode {
    /// `run`: the call, so a time limit makes sense.
    Foreground,
    /// `run_async`: a process object, which has `wait(timeout)`; its standard input stays open.
    Background,
}

/// The command that the arguments ask for, and its time limit.
pub(super) fn read(
    args: &Args,
    mode: RunMode,
) -> Result<(CommandSpec, Option<Duration>), LuaError> {
    let (program, options) = program(args)?;
    let mut spec = CommandSpec::new(program);
    let exec = &mut spec.exec;
    if mode == RunMode::Background {
        exec.stdin = Stdin::Channel;
    }
    if let Some(stdin) = options.bytes("stdin")? {
        exec.stdin = Stdin::Bytes(ByteBuf::from(stdin));
    }
    if let Some(env) = options.table("env")? {
        exec.env = environment(&env)?;
    }
    exec.env_clear = options.flag("env_clear")?;
    exec.cwd = options.bytes("cwd")?.map(ByteBuf::from);
    exec.user = user(&options)?;
    exec.tty = options.flag("tty")?;
    if let Some(limit) = options.size("max_output")? {
        spec.max_output = usize::try_from(limit).unwrap_or(usize::MAX);
    }
    Ok((spec, timeout(&options, mode)?))
}

fn program(args: &Args) -> Result<(Program, Options), LuaError> {
    match args.value(0) {
        Value::Table(words) => {
            let words = words_of(&words, "the command")?;
            if words.is_empty() {
                return Err(LuaError::argument("the command: must name a program"));
            }
            let options = args.options(1, OPTIONS)?;
            if options.has("args") {
                return Err(LuaError::argument(
                    "option `args`: the command's list holds them already",
                ));
            }
            Ok((Program::Argv(words), options))
        }
        Value::String(text) => {
            let text = ByteBuf::from(text.as_bytes().to_vec());
            match args.value(1) {
                // An empty table is an empty list of arguments, as a program may have made it.
                Value::Table(list) if is_list(&list)? => {
                    if args.has(2) && !matches!(args.value(2), Value::Integer(_)) {
                        return Err(LuaError::argument("give options as {args = {…}, …}"));
                    }
                    Ok((
                        with_arguments(text, words_of(&list, "the arguments")?),
                        Options::default(),
                    ))
                }
                _ => {
                    let options = args.options(1, OPTIONS)?;
                    match options.table("args")? {
                        Some(list) => Ok((
                            with_arguments(text, words_of(&list, "option `args`")?),
                            options,
                        )),
                        None => Ok((Program::Shell(text), options)),
                    }
                }
            }
        }
        other => Err(LuaError::argument(format!(
            "the command: must be a string or a list of strings, got {}",
            shown(&other)
        ))),
    }
}

fn is_list(table: &Table) -> Result<bool, LuaError> {
    let is_empty = || table.pairs::<Value, Value>().next().is_none();
    Ok(!table.raw_get::<Value>(1)?.is_nil() || is_empty())
}

fn with_arguments(program: ByteBuf, arguments: Vec<ByteBuf>) -> Program {
    Program::Argv(std::iter::once(program).chain(arguments).collect())
}

/// A list of words. Numbers are taken too, as Lua itself turns them into strings.
fn words_of(list: &Table, what: &str) -> Result<Vec<ByteBuf>, LuaError> {
    let bad = |why: String| LuaError::argument(format!("{what}: {why}"));
    let values = list_of(list).map_err(|_| {
        bad("must be a list of strings; options go next to `args = {…}`".to_owned())
    })?;
    let word = |(index, value): (usize, &Value)| {
        word_of(value).map_err(|why| bad(format!("entry {}: {why}", index + 1)))
    };
    values.iter().enumerate().map(word).collect()
}

fn word_of(value: &Value) -> Result<ByteBuf, String> {
    match value {
        Value::Integer(_) | Value::Number(_) => value
            .to_string()
            .map(|text| ByteBuf::from(text.into_bytes()))
            .map_err(|e| e.to_string()),
        other => {
            let bytes = bytes_of(other)?;
            if bytes.contains(&0) {
                return Err("must not hold a zero byte".to_owned());
            }
            Ok(ByteBuf::from(bytes))
        }
    }
}

/// Names and values of an environment.
pub(super) type Variables = Vec<(ByteBuf, ByteBuf)>;

/// The environment in a table, sorted by name.
pub(super) fn environment(table: &Table) -> Result<Variables, LuaError> {
    let mut entries = Vec::new();
    for pair in table.pairs::<Value, Value>() {
        let (name, value) = pair?;
        let bad = |why: String| LuaError::argument(format!("option `env`: {why}"));
        let name = bytes_of(&name).map_err(|why| bad(format!("a name {why}")))?;
        if name.is_empty() || name.iter().any(|byte| matches!(byte, b'=' | 0)) {
            let shown = text::display(&name);
            return Err(bad(format!(
                "a name must not be empty nor hold `=` or a zero byte, got {shown:?}"
            )));
        }
        let value =
            word_of(&value).map_err(|why| bad(format!("{}: {why}", text::display(&name))))?;
        entries.push((ByteBuf::from(name), value));
    }
    entries.sort();
    Ok(entries)
}

/// A user: a name or a number.
pub(super) fn user(options: &Options) -> Result<Option<String>, LuaError> {
    match options.value("user") {
        Some(Value::Integer(id)) => Ok(Some(id.to_string())),
        _ => options.text("user"),
    }
}

fn timeout(options: &Options, mode: RunMode) -> Result<Option<Duration>, LuaError> {
    let given = options.has("timeout") || options.has("timeout_ms");
    if given && mode == RunMode::Background {
        let key = if options.has("timeout") {
            "timeout"
        } else {
            "timeout_ms"
        };
        return Err(LuaError::argument(format!(
            "option `{key}` is not for run_async: give it to the process, as in proc:wait(\"10s\")"
        )));
    }
    if options.has("timeout") && options.has("timeout_ms") {
        return Err(LuaError::argument(
            "give `timeout` or `timeout_ms`, not both",
        ));
    }
    if let Some(milliseconds) = options.number("timeout_ms")? {
        let limit = duration_of(&Value::Number(milliseconds / 1000.0));
        return limit
            .map(Some)
            .map_err(|why| LuaError::argument(format!("option `timeout_ms`: {why}")));
    }
    options.duration("timeout")
}
