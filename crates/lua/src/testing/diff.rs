//! Deep comparison of two Lua values, and values in words.

use crate::preview::clip;
use mlua::{Table, Value};
use std::ffi::c_void;

/// Most differences that are told.
const MAX_LINES: usize = 20;
/// Longest text of one value.
const MAX_SHOWN: usize = 200;

/// Where two values differ, a line each, as `.a.b[3]: 1 ~= 2`. Empty: they are the same.
pub(super) fn differences(one: &Value, other: &Value) -> mlua::Result<Vec<String>> {
    let mut comparison = Comparison {
        lines: Vec::new(),
        open: Vec::new(),
        more: 0,
    };
    comparison.compare(one, other, "")?;
    let mut lines = comparison.lines;
    if comparison.more > 0 {
        lines.push(format!("… and {} more", comparison.more));
    }
    Ok(lines)
}

struct Comparison {
    lines: Vec<String>,
    more: usize,
    /// Pairs of tables that are being compared, so that cycles end.
    open: Vec<(*const c_void, *const c_void)>,
}

impl Comparison {
    fn tell(&mut self, path: &str, one: &str, other: &str) {
        if self.lines.len() >= MAX_LINES {
            self.more += 1;
            return;
        }
        let path = if path.is_empty() { "value" } else { path };
        self.lines.push(format!("{path}: {one} ~= {other}"));
    }

    fn compare(&mut self, one: &Value, other: &Value, path: &str) -> mlua::Result<()> {
        if one.equals(other)? {
            return Ok(());
        }
        let (Value::Table(left), Value::Table(right)) = (one, other) else {
            self.tell(path, &quoted(one), &quoted(other));
            return Ok(());
        };
        let pair = (left.to_pointer(), right.to_pointer());
        if self.open.contains(&pair) {
            return Ok(());
        }
        self.open.push(pair);
        for (key, value) in sorted(left)? {
            let path = format!("{path}{}", key_text(&key));
            match right.raw_get::<Value>(&key)? {
                Value::Nil => self.tell(&path, &quoted(&value), "missing"),
                theirs => self.compare(&value, &theirs, &path)?,
            }
        }
        for (key, value) in sorted(right)? {
            if left.raw_get::<Value>(&key)?.is_nil() {
                self.tell(
                    &format!("{path}{}", key_text(&key)),
                    "missing",
                    &quoted(&value),
                );
            }
        }
        self.open.pop();
        Ok(())
    }
}

fn sorted(table: &Table) -> mlua::Result<Vec<(Value, Value)>> {
    let mut pairs: Vec<(Value, Value)> = table.pairs().collect::<mlua::Result<_>>()?;
    pairs.sort_by_cached_key(|(key, _)| match key {
        Value::Integer(number) => (0, *number, String::new()),
        other => (1, 0, key_text(other)),
    });
    Ok(pairs)
}

fn key_text(key: &Value) -> String {
    match key {
        Value::String(text) => {
            let text = text.to_string_lossy();
            let is_name = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && !text.starts_with(|c: char| c.is_ascii_digit())
                && !text.is_empty();
            if is_name {
                format!(".{text}")
            } else {
                format!("[{text:?}]")
            }
        }
        other => format!("[{}]", plain(other)),
    }
}

/// A value as an author would write it: strings in quotes, tables a level or two deep.
pub(super) fn quoted(value: &Value) -> String {
    clip(&render(value, 2), MAX_SHOWN)
}

fn render(value: &Value, depth: usize) -> String {
    match value {
        Value::String(text) => format!("{:?}", text.to_string_lossy()),
        Value::Table(table) if table.metatable().is_none() => {
            let Ok(pairs) = sorted(table) else {
                return plain(value);
            };
            if depth == 0 {
                return "{…}".to_owned();
            }
            let mut next = 1;
            let mut parts = Vec::new();
            for (key, value) in pairs.iter().take(50) {
                let value = render(value, depth - 1);
                if *key == Value::Integer(next) {
                    next += 1;
                    parts.push(value);
                } else {
                    let key = key_text(key);
                    parts.push(format!(
                        "{} = {value}",
                        key.strip_prefix('.').unwrap_or(&key)
                    ));
                }
            }
            format!("{{{}}}", parts.join(", "))
        }
        other => plain(other),
    }
}

/// A value as `tostring` gives it.
pub(super) fn plain(value: &Value) -> String {
    value
        .to_string()
        .unwrap_or_else(|_| format!("a {}", value.type_name()))
}

/// Two values side by side. Strings are quoted where it would not be clear otherwise what they are.
pub(super) fn pair(one: &Value, other: &Value) -> (String, String) {
    let both = matches!((one, other), (Value::String(_), Value::String(_)));
    let show = |value: &Value| match value {
        Value::String(text) => {
            let text = text.to_string_lossy();
            let odd = text.is_empty()
                || text.trim() != text
                || text.contains(|c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER);
            if both && !odd {
                clip(&text, MAX_SHOWN)
            } else {
                clip(&format!("{text:?}"), MAX_SHOWN)
            }
        }
        other => quoted(other),
    };
    (show(one), show(other))
}
