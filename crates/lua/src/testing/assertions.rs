//! The assertions of `t` that need no call back into Lua.

use super::diff::{difference_of, differences, pair, plain, quoted};
use super::text_diff::SHORT;
use crate::binding::args::Args;
use crate::binding::class::{Class, Object, is_of_class};
use crate::binding::raise::LuaError;
use crate::binding::stack;
use crate::binding::values::number_of;
use crate::engine::cut::keep_in;
use crate::engine::test_file::TestFileState;
use crate::text::{self, without_middle};
use mlua::{Function, Lua, MultiValue, Result, Table, Value};
use provium_events::counted;

/// Longest text shown whole when something is not found in it, bytes; of a longer one, its start and its end are.
const MAX_HAYSTACK: usize = 600;

/// The class of the results of commands.
pub(crate) const COMMAND_RESULT: &str = "result";

/// Why the result of a command cannot be asserted as it is.
const ALWAYS_TRUE: &str = "got the result of a command, which is always true; assert \
     result:ok(), call result:assert_ok(), or run it by vm:check()";

type Outcome = std::result::Result<MultiValue, LuaError>;

/// Adds the assertions to the class.
pub(super) fn add<T: Object>(class: Class<'_, T>) -> Result<Class<'_, T>> {
    let globals = class.lua().globals();
    let find: Function = globals.get::<Table>("string")?.get("match")?;
    class
        .method("assert", |lua, _, args| firm(lua, "assert", args, holds))?
        .method("assert_eq", |lua, _, args| {
            firm(lua, "assert_eq", args, equal)
        })?
        .method("assert_neq", |lua, _, args| {
            firm(lua, "assert_neq", args, unequal)
        })?
        .method("assert_contains", |lua, _, args| {
            firm(lua, "assert_contains", args, contains)
        })?
        .method("assert_same", |lua, _, args| {
            firm(lua, "assert_same", args, |args| same(lua, args))
        })?
        .method("assert_match", move |lua, _, args| {
            firm(lua, "assert_match", args, |args| matches(&find, args))
        })?
        .method("assert_near", |lua, _, args| {
            firm(lua, "assert_near", args, near)
        })?
        .method("fail", |_, _, args| -> Outcome {
            Err(LuaError::Assertion(message(args, 0, "failed by t:fail")))
        })
}

/// Adds what Lua's own `assert` in the prelude calls.
pub(super) fn register(lua: &Lua, native: &Table) -> Result<()> {
    let is_result = |_: &Lua, value: Value| Ok(is_of_class(&value, COMMAND_RESULT));
    native.raw_set("is_result", lua.create_function(is_result)?)?;
    native.raw_set("always_true", ALWAYS_TRUE)?;
    let asserted = |lua: &Lua, ()| Ok(command_asserted(lua));
    native.raw_set("command_asserted", lua.create_function(asserted)?)?;
    // The value of an error that is not a string.
    let shown = |_: &Lua, value: Value| Ok(quoted(&value));
    native.raw_set("shown", lua.create_function(shown)?)
}

/// A misuse of an assertion must not pass in silence behind a `pcall` either. What is asserted is often
/// a call, which passes on all its results; whatever they are, an assertion takes what it needs.
fn firm(lua: &Lua, call: &str, args: &Args, check: impl Fn(&Args) -> Outcome) -> Outcome {
    args.take_any();
    check(args).map_err(|raise| match raise {
        LuaError::Argument(why) => LuaError::Assertion(format!("{call}: {why}")),
        LuaError::Assertion(text) => {
            LuaError::Assertion(text + &whole_texts(lua, args) + &command_asserted(lua))
        }
        other => other,
    })
}

/// Where texts are whole that the message of a failed assertion does not show whole.
fn whole_texts(lua: &Lua, args: &Args) -> String {
    let keep = keep_in(&TestFileState::of(lua).lab);
    let mut notes = String::new();
    for (index, name) in ["the first text", "the second text"]
        .into_iter()
        .enumerate()
    {
        let Value::String(value) = args.value(index) else {
            continue;
        };
        let bytes = value.as_bytes();
        if bytes.len() <= SHORT {
            continue;
        }
        if let Some(file) = keep(name, &bytes) {
            let size = counted(bytes.len() as u64, "byte");
            notes.push_str(&format!("\n{name} is whole in {file} ({size})"));
        }
    }
    notes
}

/// The failed command whose ending the arguments of the running assertion have read, as in
/// `t:assert(result:ok())`; for the end of its message.
fn command_asserted(lua: &Lua) -> String {
    let Some(site) = stack::place(lua) else {
        return String::new();
    };
    let group = TestFileState::of(lua).current_group();
    let command = group.failed_commands.read_at(&site);
    command.map_or_else(String::new, |command| format!("\n{}", command.report()))
}

fn message(args: &Args, index: usize, default: &str) -> String {
    match args.value(index) {
        Value::Nil => default.to_owned(),
        value => plain(&value),
    }
}

fn fail(text: String) -> Outcome {
    Err(LuaError::Assertion(text))
}

fn nothing() -> Outcome {
    Ok(MultiValue::new())
}

fn holds(args: &Args) -> Outcome {
    match args.value(0) {
        value @ (Value::Nil | Value::Boolean(false)) => fail(format!(
            "{}: got {}",
            message(args, 1, "assertion failed"),
            plain(&value)
        )),
        value if is_of_class(&value, COMMAND_RESULT) => Err(LuaError::argument(ALWAYS_TRUE)),
        value => Ok(MultiValue::from_iter([value])),
    }
}

fn equal(args: &Args) -> Outcome {
    let (one, other) = (args.value(0), args.value(1));
    if one.equals(&other)? {
        return nothing();
    }
    let (left, right) = pair(&one, &other);
    let hint = match (&one, &other) {
        (Value::Table(_), Value::Table(_)) => {
            " (two tables; assert_same compares what is in them)".to_owned()
        }
        _ => match difference_of(&one, &other) {
            Some(difference) => format!("\n{difference}"),
            None => " (actual ~= expected)".to_owned(),
        },
    };
    fail(format!(
        "{}: {left} ~= {right}{hint}",
        message(args, 2, "assert_eq")
    ))
}

fn unequal(args: &Args) -> Outcome {
    let (one, other) = (args.value(0), args.value(1));
    if !one.equals(&other)? {
        return nothing();
    }
    let (left, right) = pair(&one, &other);
    fail(format!(
        "{}: {left} == {right}",
        message(args, 2, "assert_neq")
    ))
}

fn contains(args: &Args) -> Outcome {
    let haystack = args.bytes(0, "the text searched")?;
    let needle = args.bytes(1, "the text searched for")?;
    let found = needle.is_empty()
        || haystack
            .windows(needle.len())
            .any(|window| window == needle);
    if found {
        return nothing();
    }
    let haystack = without_middle(text::quoted(&haystack), MAX_HAYSTACK);
    let needle = quoted(&args.value(1));
    fail(format!(
        "{}: {needle} not found in {haystack}",
        message(args, 2, "assert_contains")
    ))
}

fn same(lua: &Lua, args: &Args) -> Outcome {
    let keep = keep_in(&TestFileState::of(lua).lab);
    let lines = differences(lua, &args.value(0), &args.value(1), &keep)?;
    if lines.is_empty() {
        return nothing();
    }
    let label = message(args, 2, "assert_same");
    fail(format!(
        "{label}: the values differ (actual ~= expected)\n  {}",
        lines.join("\n  ")
    ))
}

fn matches(find: &Function, args: &Args) -> Outcome {
    let text = args.bytes(0, "the text")?;
    args.bytes(1, "the pattern")?;
    let captures: MultiValue = find.call((args.value(0), args.value(1))).map_err(|error| {
        let why = crate::engine::failure::Failure::from(error).message;
        LuaError::argument(format!(
            "bad pattern: {}",
            why.lines().next().unwrap_or_default()
        ))
    })?;
    if captures.front().is_some_and(|first| !first.is_nil()) {
        return Ok(captures);
    }
    let text = without_middle(text::quoted(&text), MAX_HAYSTACK);
    let pattern = quoted(&args.value(1));
    fail(format!(
        "{}: {text} does not match {pattern}",
        message(args, 2, "assert_match")
    ))
}

fn near(args: &Args) -> Outcome {
    let number = |index, name: &str| {
        number_of(&args.value(index)).map_err(|why| LuaError::argument(format!("{name}: {why}")))
    };
    let one = number(0, "the first value")?;
    let other = number(1, "the second value")?;
    let tolerance = number(2, "the tolerance")?;
    let distance = (one - other).abs();
    if distance <= tolerance || one == other {
        return nothing();
    }
    let label = message(args, 3, "assert_near");
    fail(format!(
        "{label}: {one} and {other} are {distance} apart, more than {tolerance}"
    ))
}
