//! A call's arguments: taken by position and checked, with messages that name the parameter.

use crate::binding::options::Options;
use crate::binding::preview::shown;
use crate::binding::raise::LuaError;
use crate::binding::signals::signal_of;
use crate::binding::values::{
    bytes_of, count_of, duration_of, integer_of, perm_of, text_of, text_to_find_of, unsigned_of,
    words_of,
};
use mlua::{Function, Table, Value};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// The arguments of a call, without the object it was made on.
///
/// As in Lua itself, surplus ones are dropped: a call as the last argument passes on all its results.
/// Only a surplus table raises, since that would be options which have no effect.
#[derive(Debug, Clone)]
pub(crate) struct Args {
    values: Vec<Value>,
    used: ArgumentUse,
}

/// The number of arguments of a call that it has read.
#[derive(Debug, Clone, Default)]
pub(crate) struct ArgumentUse {
    most: Rc<Cell<usize>>,
    /// Index of the last table among the arguments.
    last_table: Option<usize>,
}

impl Args {
    pub(crate) fn new(values: Vec<Value>) -> Self {
        let used = ArgumentUse {
            most: Rc::default(),
            last_table: values.iter().rposition(Value::is_table),
        };
        Self { values, used }
    }

    /// The argument at `index`, from 0; nil where there is none.
    pub(crate) fn value(&self, index: usize) -> Value {
        self.used.note(index + 1);
        self.values.get(index).cloned().unwrap_or(Value::Nil)
    }

    /// All of them.
    pub(crate) fn values(&self) -> &[Value] {
        self.used.note(usize::MAX);
        &self.values
    }

    /// All of them, to be shown.
    pub(crate) fn shown(&self) -> &[Value] {
        &self.values
    }

    /// Surplus tables are dropped like everything else.
    pub(crate) fn take_any(&self) {
        self.used.note(usize::MAX);
    }

    /// What the call looks at, from now on.
    pub(crate) fn used(&self) -> ArgumentUse {
        self.used.clone()
    }

    /// Whether the argument at `index` is there and not nil.
    pub(crate) fn has(&self, index: usize) -> bool {
        !self.value(index).is_nil()
    }

    fn read<T>(
        &self,
        index: usize,
        name: &str,
        read: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Result<T, LuaError> {
        read(&self.value(index)).map_err(|why| LuaError::argument(format!("{name}: {why}")))
    }

    fn optional<T>(
        &self,
        index: usize,
        name: &str,
        read: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Result<Option<T>, LuaError> {
        if self.has(index) {
            self.read(index, name, read).map(Some)
        } else {
            Ok(None)
        }
    }

    /// A string as bytes.
    pub(crate) fn bytes(&self, index: usize, name: &str) -> Result<Vec<u8>, LuaError> {
        self.read(index, name, bytes_of)
    }

    /// A text to look for: a string that is not empty, since that would be found anywhere.
    pub(crate) fn text_to_find(&self, index: usize) -> Result<Vec<u8>, LuaError> {
        self.read(index, "the text", text_to_find_of)
    }

    /// A Lua pattern to look for.
    pub(crate) fn pattern_to_find(&self, index: usize) -> Result<Vec<u8>, LuaError> {
        self.read(index, "the pattern", text_to_find_of)
    }

    /// A path: a string that is not empty and holds no zero byte.
    pub(crate) fn path(&self, index: usize, name: &str) -> Result<Vec<u8>, LuaError> {
        self.read(index, name, |value| {
            let bytes = bytes_of(value)?;
            match bytes.as_slice() {
                [] => Err("must not be empty".to_owned()),
                bytes if bytes.contains(&0) => Err("must not hold a zero byte".to_owned()),
                _ => Ok(bytes),
            }
        })
    }

    /// A string that is valid UTF-8.
    pub(crate) fn text(&self, index: usize, name: &str) -> Result<String, LuaError> {
        self.read(index, name, text_of)
    }

    pub(crate) fn opt_text(&self, index: usize, name: &str) -> Result<Option<String>, LuaError> {
        self.optional(index, name, text_of)
    }

    /// A string for people: bytes that are not UTF-8 become `\xNN`.
    pub(crate) fn words(&self, index: usize, name: &str) -> Result<String, LuaError> {
        self.read(index, name, words_of)
    }

    pub(crate) fn opt_words(&self, index: usize, name: &str) -> Result<Option<String>, LuaError> {
        self.optional(index, name, words_of)
    }

    pub(crate) fn integer(&self, index: usize, name: &str) -> Result<i64, LuaError> {
        self.read(index, name, integer_of)
    }

    /// A whole number that fits `T`.
    pub(crate) fn unsigned<T: TryFrom<i64>>(
        &self,
        index: usize,
        name: &str,
    ) -> Result<T, LuaError> {
        self.read(index, name, unsigned_of)
    }

    /// A whole number that fits `T`, at least 1.
    pub(crate) fn count<T: TryFrom<i64>>(&self, index: usize, name: &str) -> Result<T, LuaError> {
        self.read(index, name, count_of)
    }

    pub(crate) fn duration(&self, index: usize, name: &str) -> Result<Duration, LuaError> {
        self.read(index, name, duration_of)
    }

    pub(crate) fn opt_duration(
        &self,
        index: usize,
        name: &str,
    ) -> Result<Option<Duration>, LuaError> {
        self.optional(index, name, duration_of)
    }

    pub(crate) fn opt_signal(&self, index: usize) -> Result<Option<i32>, LuaError> {
        if !self.has(index) {
            return Ok(None);
        }
        signal_of(&self.value(index))
            .map(Some)
            .map_err(LuaError::argument)
    }

    pub(crate) fn perm(&self, index: usize, name: &str) -> Result<u32, LuaError> {
        self.read(index, name, perm_of)
    }

    pub(crate) fn table(&self, index: usize, name: &str) -> Result<Table, LuaError> {
        self.read(index, name, |value| match value {
            Value::Table(table) => Ok(table.clone()),
            other => Err(format!("must be a table, got {}", shown(other))),
        })
    }

    pub(crate) fn function(&self, index: usize, name: &str) -> Result<Function, LuaError> {
        self.read(index, name, |value| match value {
            Value::Function(function) => Ok(function.clone()),
            other => Err(format!("must be a function, got {}", shown(other))),
        })
    }

    /// The option table at `index`, if there is one.
    ///
    /// A whole number right behind a string is ignored: it is the count that `s:gsub(…)` returns beside its
    /// text, as in `vm:write_file(path, s:gsub(…))`.
    pub(crate) fn options(&self, index: usize, known: &[&str]) -> Result<Options, LuaError> {
        let behind_text = index > 0 && matches!(self.value(index - 1), Value::String(_));
        match self.value(index) {
            Value::Nil => Ok(Options::default()),
            Value::Integer(count) if behind_text && count >= 0 => Ok(Options::default()),
            Value::Table(table) => Options::read(&table, known),
            other => Err(LuaError::argument(format!(
                "options must be a table, got {}",
                shown(&other)
            ))),
        }
    }
}

impl ArgumentUse {
    fn note(&self, count: usize) {
        self.most.set(self.most.get().max(count));
    }

    /// An error where a call that is done has not looked at a table it was given.
    pub(crate) fn check(&self) -> Result<(), LuaError> {
        match self.last_table {
            Some(index) if index >= self.most.get() => Err(LuaError::argument(format!(
                "takes no options, got a table as argument {}",
                index + 1
            ))),
            _ => Ok(()),
        }
    }
}
