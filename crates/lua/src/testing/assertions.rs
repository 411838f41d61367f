//! The assertions of `t` that need no call back into Lua.

use super::context::TestContext;
use super::diff::{differences, first_difference, pair, plain, quoted};
use crate::api::objects::is_result;
use crate::binding::args::Args;
use crate::binding::class::Class;
use crate::binding::raise::LuaError;
use crate::binding::stack;
use crate::binding::text::{self, cut};
use crate::binding::values::number_of;
use crate::engine::task::Task;
use crate::engine::test_file::TestFileState;
use mlua::{Function, Lua, MultiValue, Result, Table, Value};

/// Longest text shown whole when something is not found in it.
const MAX_HAYSTACK: usize = 600;

/// Why the result of a command cannot be asserted as it is.
pub(crate) const ALWAYS_TRUE: &str = "got the result of a command, which is always true; assert \
     result:ok(), call result:assert_ok(), or run it by vm:check()";

type Outcome = std::result::Result<MultiValue, LuaError>;

/// Adds the assertions to the class.
pub(super) fn add<'a>(class: Class<'a, TestContext>, lua: &Lua) -> Result<Class<'a, TestContext>> {
    let find: Function = lua.globals().get::<Table>("string")?.get("match")?;
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

/// A misuse of an assertion must not pass in silence behind a `pcall` either. What is asserted is often
/// a call, which passes on all its results; whatever they are, an assertion takes what it needs.
fn firm(lua: &Lua, call: &str, args: &Args, check: impl Fn(&Args) -> Outcome) -> Outcome {
    args.take_any();
    check(args).map_err(|raise| match raise {
        LuaError::Argument(why) => LuaError::Assertion(format!("{call}: {why}")),
        LuaError::Assertion(text) => LuaError::Assertion(text + &command_asserted(lua)),
        other => other,
    })
}

/// The failed command whose ending the arguments of the running assertion have read, as in
/// `t:assert(result:ok())`; for the end of its message.
pub(crate) fn command_asserted(lua: &Lua) -> String {
    let Some(site) = stack::place(lua) else {
        return String::new();
    };
    let state = TestFileState::of(lua);
    let command = match Task::current().and_then(|task| task.run.clone()) {
        Some(run) => run.failed_commands.read_at(&site),
        None => state.failed_commands.read_at(&site),
    };
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
        value if is_result(&value) => Err(LuaError::argument(ALWAYS_TRUE)),
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
        _ => {
            first_difference(&one, &other).map_or_else(String::new, |where_| format!("\n{where_}"))
        }
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
    let haystack = cut(&text::quoted(&haystack), MAX_HAYSTACK);
    let needle = quoted(&args.value(1));
    fail(format!(
        "{}: {needle} not found in {haystack}",
        message(args, 2, "assert_contains")
    ))
}

fn same(lua: &Lua, args: &Args) -> Outcome {
    let lines = differences(lua, &args.value(0), &args.value(1))?;
    if lines.is_empty() {
        return nothing();
    }
    let label = message(args, 2, "assert_same");
    fail(format!(
        "{label}: the values differ\n  {}",
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
    let text = cut(&text::quoted(&text), MAX_HAYSTACK);
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
