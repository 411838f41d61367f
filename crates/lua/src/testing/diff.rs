//! Deep comparison of two Lua values, and values in words.
//!
//! Tables may be nested deeply, share parts, or contain themselves: the comparison keeps a stack of
//! its own, looks at each pair of tables once, and ends when the test's time is up.

use super::text_diff::{self, common_prefix};
use crate::engine::cut::Keep;
use crate::engine::hook;
use crate::text::{self, cut};
use mlua::{Lua, Table, Value};
use std::collections::HashSet;
use std::ffi::c_void;

/// Most bytes of differences that are kept for a file.
const MAX_KEPT: usize = 4 * 1024 * 1024;
/// Most differences that are shown.
const MAX_LINES: usize = 20;
/// Longest text of one value.
const MAX_SHOWN: usize = text_diff::SHORT;
/// Most entries of a table that are shown.
const MAX_ENTRIES: usize = 50;
/// Most entries of a table that are looked at to be shown.
const MAX_SORTED: usize = 1000;
/// Levels of a path that are shown at each of its ends.
const PATH_ENDS: usize = 8;
/// Steps of a comparison between two looks at the clock.
const STEPS: usize = 1000;
/// Bytes that are shown before the first difference of two texts.
const CONTEXT: usize = 60;

/// Where two values differ, a line each, as `.a.b[3]: 1 ~= 2`. Empty: they are the same. If there are more than
/// are shown, all are kept in a file.
pub(super) fn differences(
    lua: &Lua,
    one: &Value,
    other: &Value,
    keep: Keep<'_>,
) -> mlua::Result<Vec<String>> {
    let mut comparison = Comparison::default();
    comparison.compare(one, other)?;
    let mut steps = 0;
    while let Some(level) = comparison.open.last_mut() {
        steps += 1;
        if steps % STEPS == 0 {
            hook::check(lua)?;
        }
        let Some(key) = level.keys.get(level.next) else {
            comparison.open.pop();
            continue;
        };
        level.next += 1;
        let key = key.to_lua(lua)?;
        let (mine, theirs) = (
            level.left.raw_get::<Value>(&key)?,
            level.right.raw_get::<Value>(&key)?,
        );
        match (&mine, &theirs) {
            (_, Value::Nil) => comparison.tell(&quoted(&mine), "missing"),
            (Value::Nil, _) => comparison.tell("missing", &quoted(&theirs)),
            _ => comparison.compare(&mine, &theirs)?,
        }
    }
    let mut lines = comparison.lines;
    if comparison.more > 0 {
        let mut all = comparison.all;
        if comparison.not_kept > 0 {
            all.push_str(&format!("… and {} more\n", comparison.not_kept));
        }
        let file = keep("differences", all.as_bytes());
        let file = file.map_or_else(String::new, |file| format!("; all are in {file}"));
        lines.push(format!("… and {} more{file}", comparison.more));
    }
    Ok(lines)
}

#[derive(Default)]
struct Comparison {
    lines: Vec<String>,
    more: usize,
    /// All differences, a line each, up to a limit; and how many are beyond it.
    all: String,
    not_kept: usize,
    /// Pairs of tables that are or were compared: their differences are shown once.
    seen: HashSet<(*const c_void, *const c_void)>,
    /// Tables that are being compared, outermost first.
    open: Vec<Level>,
}

/// A pair of tables that is being compared.
struct Level {
    left: Table,
    right: Table,
    keys: Vec<Key>,
    /// Index in `keys` of the one to be looked at next.
    next: usize,
}

impl Comparison {
    fn tell(&mut self, one: &str, other: &str) {
        if self.all.len() >= MAX_KEPT {
            self.not_kept += 1;
            self.more += 1;
            return;
        }
        let line = format!("{}: {one} ~= {other}", self.path());
        self.all.push_str(&line);
        self.all.push('\n');
        if self.lines.len() >= MAX_LINES {
            self.more += 1;
        } else {
            self.lines.push(line);
        }
    }

    /// Where the values are that are compared now.
    fn path(&self) -> String {
        let levels = self.open.iter();
        let parts: Vec<&Key> = levels
            .filter_map(|level| level.keys.get(level.next.checked_sub(1)?))
            .collect();
        let join = |parts: &[&Key]| parts.iter().map(|key| key.text()).collect::<String>();
        match parts.len() {
            0 => "value".to_owned(),
            many if many > 3 * PATH_ENDS => format!(
                "{} … {} levels … {}",
                join(&parts[..PATH_ENDS]),
                many - 2 * PATH_ENDS,
                join(&parts[many - PATH_ENDS..])
            ),
            _ => join(&parts),
        }
    }

    fn compare(&mut self, one: &Value, other: &Value) -> mlua::Result<()> {
        if one.equals(other)? {
            return Ok(());
        }
        let (Value::Table(left), Value::Table(right)) = (one, other) else {
            let (left, right) = sides(one, other);
            self.tell(&left, &right);
            if let Some(difference) = difference_of(one, other)
                && self.more == 0
            {
                self.lines.extend(difference.lines().map(str::to_owned));
            }
            return Ok(());
        };
        if self.seen.insert((left.to_pointer(), right.to_pointer())) {
            let mut keys = keys_of(left)?;
            let mut theirs = Vec::new();
            for pair in right.pairs::<Value, Value>() {
                let key = pair?.0;
                if left.raw_get::<Value>(&key)?.is_nil() {
                    theirs.push(Key::of(key));
                }
            }
            theirs.sort_by_cached_key(Key::order);
            keys.append(&mut theirs);
            self.open.push(Level {
                left: left.clone(),
                right: right.clone(),
                keys,
                next: 0,
            });
        }
        Ok(())
    }
}

/// A table's key. Strings are copies: Lua's machine keeps a bounded number of its values for Rust.
enum Key {
    Integer(i64),
    Text(Vec<u8>),
    Other(Value),
}

impl Key {
    fn of(key: Value) -> Self {
        match key {
            Value::Integer(number) => Self::Integer(number),
            Value::String(text) => Self::Text(text.as_bytes().to_vec()),
            other => Self::Other(other),
        }
    }

    fn to_lua(&self, lua: &Lua) -> mlua::Result<Value> {
        Ok(match self {
            Self::Integer(number) => Value::Integer(*number),
            Self::Text(text) => Value::String(lua.create_string(text)?),
            Self::Other(value) => value.clone(),
        })
    }

    /// As in a path: `.name`, `[1]`, `["odd name"]`.
    fn text(&self) -> String {
        match self {
            Self::Integer(number) => format!("[{number}]"),
            Self::Text(bytes) => {
                let is_name = bytes
                    .iter()
                    .all(|b| b.is_ascii_alphanumeric() || *b == b'_')
                    && bytes.first().is_some_and(|first| !first.is_ascii_digit());
                if is_name {
                    format!(".{}", text::display(bytes))
                } else {
                    format!("[{}]", text::quoted(bytes))
                }
            }
            Self::Other(value) => format!("[{}]", plain(value)),
        }
    }

    fn order(&self) -> (u8, i64, String) {
        match self {
            Self::Integer(number) => (0, *number, String::new()),
            other => (1, 0, other.text()),
        }
    }
}

/// The keys of a table, sorted.
fn keys_of(table: &Table) -> mlua::Result<Vec<Key>> {
    let pairs = table.pairs::<Value, Value>();
    let mut keys = pairs
        .map(|pair| Ok(Key::of(pair?.0)))
        .collect::<mlua::Result<Vec<_>>>()?;
    keys.sort_by_cached_key(Key::order);
    Ok(keys)
}

/// A value as an author would write it: strings in quotes, tables a level or two deep.
pub(crate) fn quoted(value: &Value) -> String {
    cut(&render(value, 2), MAX_SHOWN)
}

fn render(value: &Value, depth: usize) -> String {
    match value {
        Value::String(text) => text::quoted(&text.as_bytes()),
        Value::Table(table) if table.metatable().is_none() => {
            render_table(table, depth).unwrap_or_else(|_| plain(value))
        }
        other => plain(other),
    }
}

fn render_table(table: &Table, depth: usize) -> mlua::Result<String> {
    let pairs = table.pairs::<Value, Value>().take(MAX_SORTED);
    let pairs = pairs.map(|pair| pair.map(|(key, value)| (Key::of(key), value)));
    let mut entries = pairs.collect::<mlua::Result<Vec<_>>>()?;
    entries.sort_by_cached_key(|(key, _)| key.order());
    if depth == 0 && !entries.is_empty() {
        return Ok("{…}".to_owned());
    }
    let mut next = 1;
    let mut parts = Vec::new();
    for (key, value) in entries.iter().take(MAX_ENTRIES) {
        let value = render(value, depth.saturating_sub(1));
        if matches!(key, Key::Integer(number) if *number == next) {
            next += 1;
            parts.push(value);
        } else {
            let key = key.text();
            let key = key.strip_prefix('.').unwrap_or(&key);
            parts.push(format!("{key} = {value}"));
        }
    }
    if entries.len() == MAX_SORTED {
        parts.push("…".to_owned());
    } else if entries.len() > MAX_ENTRIES {
        parts.push(format!("… {} more", entries.len() - MAX_ENTRIES));
    }
    Ok(format!("{{{}}}", parts.join(", ")))
}

/// A value as `tostring` gives it; bytes that are not UTF-8 as `\xNN`.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text::display(&text.as_bytes()),
        // Only a metamethod of the author's may fail, or give what is not UTF-8.
        other => other
            .to_string()
            .unwrap_or_else(|_| format!("a {} that cannot be shown", other.type_name())),
    }
}

/// Two values that differ, side by side. Strings are quoted where they could be taken for something
/// else; of long ones, the part around the first difference is shown.
pub(super) fn sides(one: &Value, other: &Value) -> (String, String) {
    let (Value::String(left), Value::String(right)) = (one, other) else {
        return (quoted(one), quoted(other));
    };
    let (left, right) = (left.as_bytes(), right.as_bytes());
    let window = Window::of(&left, &right);
    (window.shown(&left), window.shown(&right))
}

/// Two values side by side, for `assert_eq`: unambiguous strings have no quotes.
pub(super) fn pair(one: &Value, other: &Value) -> (String, String) {
    if let (Value::String(left), Value::String(right)) = (one, other) {
        let (left, right) = (left.as_bytes(), right.as_bytes());
        let clear = |bytes: &[u8]| bytes.len() <= MAX_SHOWN && !text::needs_quotes(bytes);
        if clear(&left) && clear(&right) {
            return (text::display(&left), text::display(&right));
        }
    }
    sides(one, other)
}

/// Where and how two strings differ, unless both were shown whole.
pub(super) fn difference_of(actual: &Value, expected: &Value) -> Option<String> {
    let (Value::String(actual), Value::String(expected)) = (actual, expected) else {
        return None;
    };
    text_diff::describe(&actual.as_bytes(), &expected.as_bytes())
}

/// The part of two strings that is shown.
struct Window {
    from: usize,
}

impl Window {
    fn of(one: &[u8], other: &[u8]) -> Self {
        let at = common_prefix(one, other);
        // A start that both can show, not too far before the first difference.
        let from = if at <= MAX_SHOWN / 2 { 0 } else { at - CONTEXT };
        Self { from }
    }

    fn shown(&self, bytes: &[u8]) -> String {
        let from = self.from.min(bytes.len());
        let shown = cut(&text::quoted(&bytes[from..]), MAX_SHOWN);
        match from {
            0 => shown,
            from => format!("({from} bytes …) {shown}"),
        }
    }
}
