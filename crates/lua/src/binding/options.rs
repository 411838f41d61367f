//! Option tables: every key is known, every value of the right type, or the call raises.

use crate::binding::preview::shown;
use crate::binding::raise::LuaError;
use crate::binding::values::{
    bytes_of, duration_of, integer_of, number_of, perm_of, size_of, text_of, unsigned_of, words_of,
};
use mlua::{Table, Value};
use provium_lab::nearest::nearest;
use std::collections::BTreeMap;
use std::time::Duration;

/// The keys of an option table, checked against those the call knows.
#[derive(Debug, Default)]
pub(crate) struct Options(BTreeMap<String, Value>);

impl Options {
    /// The options in `table`. A key that is not in `known` raises and names the nearest that is.
    pub(crate) fn read(table: &Table, known: &[&str]) -> Result<Self, LuaError> {
        Self::read_after_list(table, 0, known)
    }

    /// The same for a table that begins with a list of `listed` values.
    pub(crate) fn read_after_list(
        table: &Table,
        listed: i64,
        known: &[&str],
    ) -> Result<Self, LuaError> {
        let mut entries = BTreeMap::new();
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair?;
            if matches!(key, Value::Integer(index) if (1..=listed).contains(&index)) {
                continue;
            }
            let Value::String(key) = &key else {
                let key = shown(&key);
                return Err(LuaError::argument(format!(
                    "option names are strings, got the key {key}"
                )));
            };
            let key = key.to_string_lossy();
            if !known.contains(&key.as_str()) {
                return Err(LuaError::argument(unknown(
                    "option",
                    &key,
                    known.iter().copied(),
                )));
            }
            entries.insert(key, value);
        }
        Ok(Self(entries))
    }

    /// The value of `key`; `None` for nil.
    pub(crate) fn value(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// Whether `key` is there.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The value of `key`, read by a function whose error says what it must be.
    pub(crate) fn read_with<T>(
        &self,
        key: &str,
        read: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Result<Option<T>, LuaError> {
        let Some(value) = self.0.get(key) else {
            return Ok(None);
        };
        read(value)
            .map(Some)
            .map_err(|why| LuaError::argument(format!("option `{key}`: {why}")))
    }

    pub(crate) fn boolean(&self, key: &str) -> Result<Option<bool>, LuaError> {
        self.read_with(key, |value| match value {
            Value::Boolean(flag) => Ok(*flag),
            other => Err(format!("must be true or false, got {}", shown(other))),
        })
    }

    /// Whether `key` is there and true.
    pub(crate) fn flag(&self, key: &str) -> Result<bool, LuaError> {
        Ok(self.boolean(key)?.unwrap_or(false))
    }

    pub(crate) fn integer(&self, key: &str) -> Result<Option<i64>, LuaError> {
        self.read_with(key, integer_of)
    }

    /// A whole number that fits `T`.
    pub(crate) fn unsigned<T: TryFrom<i64>>(&self, key: &str) -> Result<Option<T>, LuaError> {
        self.read_with(key, unsigned_of)
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>, LuaError> {
        self.read_with(key, number_of)
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<String>, LuaError> {
        self.read_with(key, text_of)
    }

    /// A string for people: bytes that are not UTF-8 become `\xNN`.
    pub(crate) fn words(&self, key: &str) -> Result<Option<String>, LuaError> {
        self.read_with(key, words_of)
    }

    pub(crate) fn bytes(&self, key: &str) -> Result<Option<Vec<u8>>, LuaError> {
        self.read_with(key, bytes_of)
    }

    pub(crate) fn duration(&self, key: &str) -> Result<Option<Duration>, LuaError> {
        self.read_with(key, duration_of)
    }

    pub(crate) fn size(&self, key: &str) -> Result<Option<u64>, LuaError> {
        self.read_with(key, size_of)
    }

    pub(crate) fn table(&self, key: &str) -> Result<Option<Table>, LuaError> {
        self.read_with(key, |value| match value {
            Value::Table(table) => Ok(table.clone()),
            other => Err(format!("must be a table, got {}", shown(other))),
        })
    }

    /// A list of values under `key`.
    pub(crate) fn list(&self, key: &str) -> Result<Option<Vec<Value>>, LuaError> {
        self.table(key)?.map(|table| list_of(&table)).transpose()
    }

    /// Permission bits under `key`: an integer from 0 to 0o7777.
    pub(crate) fn perm(&self, key: &str) -> Result<Option<u32>, LuaError> {
        self.read_with(key, perm_of)
    }
}

/// The values of a table that is a list: keys 1 to n and no others.
pub(crate) fn list_of(table: &Table) -> Result<Vec<Value>, LuaError> {
    let values: Vec<Value> = table.sequence_values().collect::<Result<_, _>>()?;
    let count = table.pairs::<Value, Value>().count();
    if count != values.len() {
        return Err(LuaError::argument(
            "must be a list: keys 1 to n without gaps, and no others",
        ));
    }
    Ok(values)
}

/// ``unknown option `cpu`; did you mean `cpus`?``
pub(crate) fn unknown<'a>(
    what: &str,
    word: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
) -> String {
    format!("unknown {what} `{word}`{}", hint(word, known))
}

/// `; did you mean …?` or, where nothing is near, all there are.
pub(crate) fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(near) = nearest(word, known.clone()) {
        return format!("; did you mean `{near}`?");
    }
    let mut all: Vec<&str> = known.into_iter().collect();
    all.sort_unstable();
    format!("; there are: {}", all.join(", "))
}
