//! `t`: what a test's body is given.

use super::test_run::{Attachment, TestRun};
use super::{assertions, diff};
use crate::binding::class::{Class, Object, raw_function};
use crate::binding::options::hint;
use crate::binding::raise::LuaError;
use crate::engine::test_file::TestFileState;
use mlua::{AnyUserData, IntoLua, Lua, Result, Table, UserDataFields, Value};
use std::rc::Rc;

/// Methods of `t`, to name the nearest when another is asked for.
const KNOWN: &[&str] = &[
    "name",
    "meta",
    "assert",
    "assert_eq",
    "assert_neq",
    "assert_contains",
    "assert_raises",
    "assert_same",
    "assert_match",
    "assert_near",
    "fail",
    "skip",
    "log",
    "step",
    "attach",
    "defer",
];

/// Most functions that a test may defer; more come of a loop without end.
const MAX_DEFERRED: usize = 10_000;

/// The test context.
#[derive(Debug, Clone)]
pub(crate) struct TestContext(pub(crate) Rc<TestRun>);

impl Object for TestContext {
    const CLASS: &'static str = "t";
    fn subject(&self) -> String {
        format!("test `{}`", self.0.name)
    }
}

/// A step that has not ended; closing it (Lua's `<close>`) ends it.
struct OpenStep {
    run: Rc<TestRun>,
    /// `None` if the test has too many to keep this one.
    index: Option<usize>,
}

/// Makes the class, and what the prelude's part of it calls.
pub(crate) fn register(lua: &Lua, native: &Table) -> Result<()> {
    let prelude = TestFileState::of(lua).prelude.clone();
    let class = Class::<TestContext>::new(lua)?
        .with(assertions::add)?
        .lua_method("assert_raises", &prelude.method("assert_raises")?)?
        .lua_method("step", &prelude.method("step")?)?;
    class
        .method("skip", |_, t, args| -> std::result::Result<(), LuaError> {
            let reason = match args.value(0) {
                Value::Nil => "skip".to_owned(),
                reason => diff::plain(&reason),
            };
            t.0.skip.replace(Some(reason));
            Err(LuaError::Skip)
        })?
        .method("log", |_, t, args| {
            let words = args.values().iter().map(|value| match value {
                Value::Table(_) => diff::quoted(value),
                other => diff::plain(other),
            });
            let line = words.collect::<Vec<_>>().join(" ");
            t.0.group.log.borrow_mut().push(line);
            Ok(())
        })?
        .method("attach", |_, t, args| {
            let attachment = Attachment {
                name: args.words(0, "the name")?,
                content: args.bytes(1, "the bytes")?,
            };
            t.0.attach(attachment);
            Ok(())
        })?
        .method("defer", |_, t, args| {
            if t.0.group.ended.get() {
                return Err(LuaError::argument("the test has ended"));
            }
            let function = args.function(0, "the function")?;
            let mut deferred = t.0.deferred.borrow_mut();
            if deferred.len() >= MAX_DEFERRED {
                let text = format!("a test may defer {MAX_DEFERRED} functions, and has done so");
                return Err(LuaError::argument(text));
            }
            deferred.push(function);
            Ok(())
        })?
        .finish_with(
            |lua, t, key| match key {
                "name" => Ok(t.0.name.clone().into_lua(lua)?),
                "meta" => Ok(t.0.meta.clone()),
                other => {
                    let hint = hint(other, KNOWN.iter().copied());
                    Err(LuaError::message(format!(
                        "t has no method `{other}`{hint}"
                    )))
                }
            },
            |_, _, key, _| Err(LuaError::message(format!("t.{key} cannot be assigned"))),
        )?;
    register_step(lua)?;
    assertions::register(lua, native)?;
    native_functions(lua, native)
}

fn register_step(lua: &Lua) -> Result<()> {
    let close = lua.create_function(|_, (step, error): (AnyUserData, Value)| {
        let step = step.borrow::<OpenStep>()?;
        let mut steps = step.run.steps.borrow_mut();
        if let Some(step) = step.index.and_then(|index| steps.get_mut(index)) {
            step.duration = Some(step.started.elapsed());
            step.ok = error.is_nil();
        }
        Ok(())
    })?;
    lua.register_userdata_type::<OpenStep>(move |registry| {
        registry.add_meta_field("__close", close)
    })
}

fn native_functions(lua: &Lua, native: &Table) -> Result<()> {
    native.raw_set(
        "step",
        raw_function(lua, "step", |lua, args| {
            let run = context(&args.value(0))?;
            let index = run.begin_step(args.words(1, "the name")?);
            Ok(lua.create_any_userdata(OpenStep { run, index })?)
        })?,
    )?;
    // Whether an assertion of the test has failed, and taking that back.
    native.raw_set(
        "sticky",
        raw_function(lua, "assert_raises", |_, args| {
            Ok(context(&args.value(0))?
                .group
                .failed_assertion
                .borrow()
                .is_some())
        })?,
    )?;
    native.raw_set(
        "restore",
        raw_function(lua, "assert_raises", |_, args| {
            if args.value(1) == Value::Boolean(false) {
                context(&args.value(0))?
                    .group
                    .failed_assertion
                    .replace(None);
            }
            Ok(())
        })?,
    )?;
    Ok(())
}

fn context(value: &Value) -> std::result::Result<Rc<TestRun>, LuaError> {
    let context = match value {
        Value::UserData(userdata) => userdata
            .borrow::<TestContext>()
            .ok()
            .map(|t| Rc::clone(&t.0)),
        _ => None,
    };
    context.ok_or_else(|| LuaError::argument("call it with `:` on t"))
}
