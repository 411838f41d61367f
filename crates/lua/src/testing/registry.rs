//! The tests a file declares: `test(name, [meta,] fn)` and `todo(reason)`.

use super::Meta;
use crate::binding::class::function;
use crate::binding::raise::LuaError;
use crate::binding::stack;
use crate::engine::file_data::file_data;
use crate::engine::test_file::TestFileState;
use mlua::{Function, Lua, Result, Table, Value};
use provium_events::{Notice, NoticeSubject};
use provium_lab::Site;
use std::cell::RefCell;

/// What a file declared.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// In the order of declaration.
    pub(crate) tests: Vec<TestDeclaration>,
    /// Every test is skipped, for this reason.
    pub(crate) todo: Option<String>,
}

/// A test.
#[derive(Debug, Clone)]
pub(crate) struct TestDeclaration {
    /// Unique in its file.
    pub(crate) name: String,
    /// Its metadata.
    pub(crate) meta: Meta,
    /// The author's meta table, for `t.meta`.
    pub(crate) meta_table: Option<Table>,
    /// Its body.
    pub(crate) body: Function,
    /// Where it was declared.
    pub(crate) site: Site,
    /// Last line of its body.
    pub(crate) last_line: u32,
}

impl TestDeclaration {
    /// From its declaration to the end of its body.
    pub(crate) fn lines(&self) -> std::ops::RangeInclusive<u32> {
        self.site.line..=self.last_line.max(self.site.line)
    }
}

/// Puts `test` and `todo` in place.
pub(crate) fn install(lua: &Lua) -> Result<()> {
    let declare = function(lua, "test", |lua, args| {
        expect_file_scope(lua, "test")?;
        let name = args.words(0, "the name")?;
        let (meta_table, body) = match (args.value(1), args.value(2)) {
            (Value::Function(body), other) if !other.is_table() => (None, body),
            (Value::Table(meta), Value::Function(body)) => (Some(meta), body),
            (Value::Nil, Value::Function(body)) => (None, body),
            _ => {
                let why = "takes a name, a meta table if you like, and a function";
                return Err(LuaError::argument(why));
            }
        };
        let state = TestFileState::of(lua);
        let registry = file_data::<RefCell<Registry>>(lua);
        let mut registry = registry.borrow_mut();
        if registry.tests.iter().any(|test| test.name == name) {
            return Err(LuaError::argument(format!(
                "duplicate name `{name}` in this file"
            )));
        }
        let meta = meta_table
            .as_ref()
            .map(|table| Meta::read(lua, table))
            .transpose()
            .map_err(LuaError::argument)?;
        let info = body.info();
        let line_of = |line: Option<usize>| line.and_then(|line| u32::try_from(line).ok());
        let site = stack::place(lua).unwrap_or_else(|| Site {
            file: state.display.clone(),
            line: line_of(info.line_defined).unwrap_or(1),
        });
        let last_line = line_of(info.last_line_defined).unwrap_or(site.line);
        let meta = meta.unwrap_or_default();
        warn_of_mistyped_keys(&state, &name, &meta, &site);
        registry.tests.push(TestDeclaration {
            name,
            meta,
            meta_table,
            body,
            site,
            last_line,
        });
        Ok(())
    })?;
    lua.globals().raw_set("test", declare)?;
    let todo = function(lua, "todo", |lua, args| {
        expect_file_scope(lua, "todo")?;
        let reason = args
            .opt_words(0, "the reason")?
            .unwrap_or_else(|| "todo".to_owned());
        let registry = file_data::<RefCell<Registry>>(lua);
        registry.borrow_mut().todo = Some(reason);
        Ok(())
    })?;
    lua.globals().raw_set("todo", todo)
}

/// A misspelt key of a meta table has no effect, so the user should know of it.
fn warn_of_mistyped_keys(state: &TestFileState, test: &str, meta: &Meta, site: &Site) {
    if state.listing.is_some() {
        return;
    }
    for (key, known) in meta.mistyped() {
        let text = format!(
            "{site}: the meta key `{key}` of test `{test}` has no effect; did you mean `{known}`?"
        );
        let notice = Notice::warning(NoticeSubject::Test, text);
        let sink = state.lab.environment().sink();
        sink.notify(notice.for_file(&state.display));
    }
}

/// Refuses what makes sense at the top level of a file only.
pub(crate) fn expect_file_scope(lua: &Lua, call: &str) -> std::result::Result<(), LuaError> {
    let state = TestFileState::of(lua);
    match &state.current_group().test {
        None if state.lab.recorder().is_some() => Err(LuaError::message(format!(
            "{call}: not in a fixture; it belongs in a *.test.lua file that uses it"
        ))),
        None => Ok(()),
        Some(name) => {
            let text = format!("{call}: only at file scope, not inside test `{name}`");
            Err(LuaError::message(text))
        }
    }
}
