//! A test's metadata: what the harness acts on, and everything, for who reads the events.

use super::kernel_logs::KernelLog;
use crate::binding::data::{Form, from_lua};
use crate::binding::preview::shown;
use crate::binding::values::{duration_of, integer_of, text_of, words_of};
use crate::text;
use mlua::{Lua, Table, Value};
use provium_events::Value as Data;
use std::time::Duration;

/// The keys that the harness, or a report, acts on.
const KNOWN: &[&str] = &[
    "slow",
    "skip",
    "tags",
    "timeout",
    "spec",
    "retries",
    "expect_fail",
    "kernel_log",
];

/// The metadata of a test.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meta {
    /// Left out unless slow tests are asked for.
    pub(crate) slow: bool,
    /// Skipped, and why.
    pub(crate) skip: Option<String>,
    /// For selection.
    pub(crate) tags: Vec<String>,
    /// Instead of the file's.
    pub(crate) timeout: Option<Duration>,
    /// How often it is tried again; instead of the file's.
    pub(crate) retries: Option<u32>,
    /// It is known to fail, and why.
    pub(crate) expect_fail: Option<String>,
    /// Which reports of its kernels it expects.
    pub(crate) kernel_log: KernelLog,
    /// All of it, by key, sorted.
    pub(crate) all: Vec<(String, Data)>,
}

impl Meta {
    /// Reads a meta table. The error says which key is wrong.
    pub(crate) fn read(lua: &Lua, table: &Table) -> Result<Self, String> {
        let mut meta = Self::default();
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair.map_err(|error| error.to_string())?;
            let key = text_of(&key)
                .map_err(|_| format!("meta keys are strings, got the key {}", shown(&key)))?;
            meta.take(&key, &value)
                .map_err(|why| format!("meta `{key}`: {why}"))?;
            let data = from_lua(lua, &value, Form::Free, None);
            let data = data.map_err(|why| format!("meta `{key}`: {why}"))?;
            meta.all.push((key, data));
        }
        meta.all.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(meta)
    }

    fn take(&mut self, key: &str, value: &Value) -> Result<(), String> {
        match (key, value) {
            ("slow", value) => self.slow = flag_of(value)?,
            ("skip", Value::String(reason)) => self.skip = Some(text::display(&reason.as_bytes())),
            ("skip", value) => self.skip = flag_of(value)?.then(|| "skip".to_owned()),
            ("tags", Value::Table(list)) => {
                let tags = list.sequence_values::<Value>();
                self.tags = tags
                    .map(|tag| {
                        tag.map_err(|error| error.to_string())
                            .and_then(|tag| words_of(&tag))
                    })
                    .collect::<Result<_, _>>()?;
            }
            ("tags", value) => self.tags = vec![words_of(value)?],
            ("timeout", value) => self.timeout = Some(duration_of(value)?),
            ("retries", value) => self.retries = Some(retries_of(value)?),
            ("expect_fail", value) => self.expect_fail = Some(words_of(value)?),
            ("kernel_log", value) => self.kernel_log = KernelLog::read(value)?,
            _ => {}
        }
        Ok(())
    }

    /// Keys that were probably meant to be others, each with the one that was meant. Any key may be used, so this
    /// is not an error.
    pub(crate) fn mistyped(&self) -> Vec<(&str, &'static str)> {
        let keys = self.all.iter().map(|(key, _)| key.as_str());
        let unknown = keys.filter(|key| !KNOWN.contains(key));
        let meant = |key: &str| {
            let near = |known: &&&str| strsim::osa_distance(key, known) == 1;
            KNOWN.iter().find(near).copied()
        };
        unknown.filter_map(|key| Some((key, meant(key)?))).collect()
    }

    /// The value of `key`, as texts to match against: one, or a list's.
    pub(crate) fn texts(&self, key: &str) -> Vec<String> {
        match self
            .all
            .iter()
            .find(|(known, _)| known == key)
            .map(|(_, data)| data)
        {
            None => Vec::new(),
            Some(Data::List(items)) => items.iter().map(ToString::to_string).collect(),
            Some(data) => vec![data.to_string()],
        }
    }
}

/// True or false; a whole number other than 0 is true, as people write who think of C.
fn flag_of(value: &Value) -> Result<bool, String> {
    match value {
        Value::Boolean(flag) => Ok(*flag),
        Value::Integer(number) => Ok(*number != 0),
        other => Err(format!("must be true or false, got {}", shown(other))),
    }
}

/// How often a failed test is tried again.
pub(crate) fn retries_of(value: &Value) -> Result<u32, String> {
    let number = integer_of(value)?;
    u32::try_from(number).map_err(|_| format!("must be 0 or more, got {number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_one_edit_away_from_a_known_one_is_mistyped() {
        let lua = Lua::new();
        let source = "{slwo = true, tag = 'x', slow = false, skill = 1, owner = 'me', Tags = 1}";
        let meta = Meta::read(&lua, &lua.load(source).eval().unwrap()).unwrap();
        let mistyped = meta.mistyped();
        assert_eq!(
            mistyped,
            [("Tags", "tags"), ("slwo", "slow"), ("tag", "tags")]
        );
    }
}
