//! `string.find`, `match`, `gmatch` and `gsub`, with patterns that a time limit can interrupt.
//!
//! `gsub` with a function loops in the prelude, so that the function of the test may wait.

use crate::binding::class::raw_function;
use crate::binding::raise::LuaError;
use crate::engine::hook;
use crate::pattern::{Capture, Matcher, PatternError, first_match, has_specials};
use mlua::{Function, IntoLua, IntoLuaMulti, Lua, LuaString, MultiValue, Result, Table, Value};
use std::cell::Cell;

type Outcome<T> = std::result::Result<T, LuaError>;

/// Adds the functions that the prelude needs to `native`.
pub(crate) fn install(lua: &Lua, native: &Table) -> Result<()> {
    native.raw_set("find", searching(lua, "find", true)?)?;
    native.raw_set("match", searching(lua, "match", false)?)?;
    // A walk over the matches of `gmatch`, or of `gsub`, which is given with its start and end.
    let walk = raw_function(lua, "gmatch", |lua, args| {
        let call = Call::of("gmatch", args.values());
        let (text, pattern) = (call.text(lua, 0)?, call.text(lua, 1)?);
        let from = start(call.integer(lua, 2)?.unwrap_or(1), text.as_bytes().len());
        Ok(gmatch(lua, text, pattern, from)?)
    })?;
    native.raw_set("gmatch", walk)?;
    let walk = raw_function(lua, "gsub", |lua, args| {
        let call = Call::of("gsub", args.values());
        let (text, pattern) = (call.text(lua, 0)?, call.text(lua, 1)?);
        let most = call.integer(lua, 3)?.unwrap_or(i64::MAX);
        // A table is indexed with the first capture; the others are not even looked at.
        let captures = if call.value(2).is_table() {
            1
        } else {
            usize::MAX
        };
        Ok(gsub_walk(lua, (text, pattern), most, captures)?)
    })?;
    native.raw_set("gsub_walk", walk)?;
    let gsub = raw_function(lua, "gsub", |lua, args| gsub(lua, args.values()))?;
    native.raw_set("gsub", gsub)
}

/// The arguments of a function of Lua's standard library, with Lua's own error messages.
struct Call<'a> {
    name: &'static str,
    values: &'a [Value],
}

impl<'a> Call<'a> {
    fn of(name: &'static str, values: &'a [Value]) -> Self {
        Self { name, values }
    }

    fn bad(&self, index: usize, wanted: &str) -> LuaError {
        let got = match self.values.get(index) {
            None => "no value",
            Some(value) => value.type_name(),
        };
        let (index, name) = (index + 1, self.name);
        LuaError::message(format!(
            "bad argument #{index} to '{name}' ({wanted} expected, got {got})"
        ))
    }

    fn value(&self, index: usize) -> &Value {
        self.values.get(index).unwrap_or(&Value::Nil)
    }

    /// A string, or a number as one.
    fn text(&self, lua: &Lua, index: usize) -> Outcome<LuaString> {
        match self.value(index) {
            Value::String(text) => Ok(text.clone()),
            number @ (Value::Integer(_) | Value::Number(_)) => lua
                .coerce_string(number.clone())?
                .ok_or_else(|| self.bad(index, "string")),
            _ => Err(self.bad(index, "string")),
        }
    }

    /// A whole number, a float or string that is one, or nothing.
    fn integer(&self, lua: &Lua, index: usize) -> Outcome<Option<i64>> {
        match self.value(index) {
            Value::Nil => Ok(None),
            value @ (Value::Integer(_) | Value::Number(_) | Value::String(_)) => {
                match lua.coerce_integer(value.clone())? {
                    Some(number) => Ok(Some(number)),
                    None if value.is_string() => Err(self.bad(index, "number")),
                    None => {
                        let (index, name) = (index + 1, self.name);
                        Err(LuaError::message(format!(
                            "bad argument #{index} to '{name}' (number has no integer representation)"
                        )))
                    }
                }
            }
            _ => Err(self.bad(index, "number")),
        }
    }
}

impl From<PatternError<mlua::Error>> for LuaError {
    fn from(error: PatternError<mlua::Error>) -> Self {
        match error {
            PatternError::Bad(why) => Self::message(why),
            PatternError::Stopped(error) => Self::Lua(error),
        }
    }
}

/// Converts a start index (from 1, or negative from the end) to an index from 0; beyond the text if the
/// start is beyond it.
fn start(from: i64, length: usize) -> usize {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let at = match from {
        1.. => from - 1,
        0 => 0,
        negative => length.saturating_add(negative).max(0),
    };
    usize::try_from(at.min(length.saturating_add(1))).unwrap_or(0)
}

fn searching(lua: &Lua, name: &'static str, find: bool) -> Result<Function> {
    raw_function(lua, name, move |lua, args| {
        let call = Call::of(name, args.values());
        let (text, pattern) = (call.text(lua, 0)?, call.text(lua, 1)?);
        let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
        let from = start(call.integer(lua, 2)?.unwrap_or(1), text.len());
        if from > text.len() {
            return Ok(MultiValue::from_iter([Value::Nil]));
        }
        let is_plain = !matches!(call.value(3), Value::Nil | Value::Boolean(false));
        if find && (is_plain || !has_specials(&pattern)) {
            let found = memchr::memmem::find(&text[from..], &pattern).map(|at| at + from);
            return Ok(match found {
                Some(at) => (at + 1, at + pattern.len()).into_lua_multi(lua)?,
                None => MultiValue::from_iter([Value::Nil]),
            });
        }
        let found = first_match(&text, &pattern, from, || hook::check(lua))?;
        let Some(found) = found else {
            return Ok(MultiValue::from_iter([Value::Nil]));
        };
        let mut values = MultiValue::new();
        let captures = match find {
            true => {
                values.push_back(found.start.wrapping_add(1).into_lua(lua)?);
                values.push_back(found.end.into_lua(lua)?);
                found.captures
            }
            false => found.captures_or_whole(),
        };
        for capture in captures {
            values.push_back(captured(lua, &text, capture)?);
        }
        Ok(values)
    })
}

fn anchor(pattern: &[u8]) -> (bool, &[u8]) {
    match pattern.strip_prefix(b"^") {
        Some(rest) => (true, rest),
        None => (false, pattern),
    }
}

/// What a capture of a match in `text` holds.
pub(crate) fn captured(lua: &Lua, text: &[u8], capture: Capture) -> Result<Value> {
    match capture {
        Capture::Text(start, end) => Ok(Value::String(lua.create_string(&text[start..end])?)),
        Capture::Position(at) => (at + 1).into_lua(lua),
    }
}

/// The iterator of `gmatch`.
fn gmatch(lua: &Lua, text: LuaString, pattern: LuaString, from: usize) -> Result<Function> {
    let place = Cell::new((from, None));
    raw_function(lua, "gmatch", move |lua, _| {
        let (bytes, pattern) = (text.as_bytes(), pattern.as_bytes());
        let mut matcher = Matcher::new(&bytes, &pattern, || hook::check(lua));
        let (from, last_end) = place.get();
        for at in from..=bytes.len() {
            let Some(end) = matcher.match_at(at)?.filter(|end| Some(*end) != last_end) else {
                continue;
            };
            place.set((end, Some(end)));
            let count = matcher.levels().max(1);
            let values = (0..count).map(|index| {
                let capture = matcher.capture(index, at, end)?;
                Ok(captured(lua, &bytes, capture)?)
            });
            return Ok(MultiValue::from_vec(values.collect::<Outcome<_>>()?));
        }
        place.set((bytes.len() + 1, None));
        Ok(MultiValue::new())
    })
}

/// Matches as `gsub` finds them, one a call: start and end from 1, and the captures (the whole match,
/// where there are none).
fn gsub_walk(
    lua: &Lua,
    (text, pattern): (LuaString, LuaString),
    most: i64,
    captures: usize,
) -> Result<Function> {
    let place = Cell::new((0, None, 0));
    raw_function(lua, "gsub", move |lua, _| {
        let (bytes, pattern) = (text.as_bytes(), pattern.as_bytes());
        let (anchored, pattern) = anchor(&pattern);
        let mut matcher = Matcher::new(&bytes, pattern, || hook::check(lua));
        let (from, last_end, count) = place.get();
        if count >= most {
            return Ok(MultiValue::new());
        }
        let last = if anchored { 0 } else { bytes.len() };
        for at in from..=last {
            let Some(end) = matcher.match_at(at)?.filter(|end| Some(*end) != last_end) else {
                continue;
            };
            // An anchored pattern is tried once.
            let next = if anchored { bytes.len() + 1 } else { end };
            place.set((next, Some(end), count + 1));
            let mut values = MultiValue::new();
            values.push_back((at + 1).into_lua(lua)?);
            values.push_back(end.into_lua(lua)?);
            for index in 0..matcher.levels().clamp(1, captures) {
                values.push_back(captured(lua, &bytes, matcher.capture(index, at, end)?)?);
            }
            return Ok(values);
        }
        place.set((bytes.len() + 1, None, count));
        Ok(MultiValue::new())
    })
}

/// `gsub` with a string as replacement.
fn gsub(lua: &Lua, values: &[Value]) -> Outcome<(LuaString, i64)> {
    let call = Call::of("gsub", values);
    let (text, pattern) = (call.text(lua, 0)?, call.text(lua, 1)?);
    let replacement = call
        .text(lua, 2)
        .map_err(|_| call.bad(2, "string/function/table"))?;
    let (bytes, pattern, replacement) =
        (text.as_bytes(), pattern.as_bytes(), replacement.as_bytes());
    let most = call.integer(lua, 3)?.unwrap_or(i64::MAX);
    let (anchored, pattern) = anchor(&pattern);
    let mut matcher = Matcher::new(&bytes, pattern, || hook::check(lua));
    let mut result = Vec::new();
    let (mut at, mut last_end, mut count) = (0, None, 0);
    while count < most {
        match matcher.match_at(at)?.filter(|end| Some(*end) != last_end) {
            Some(end) => {
                count += 1;
                replace(&mut result, &bytes, &replacement, &matcher, (at, end))?;
                at = end;
                last_end = Some(end);
            }
            None => match bytes.get(at) {
                Some(byte) => {
                    result.push(*byte);
                    at += 1;
                }
                None => break,
            },
        }
        if anchored {
            break;
        }
        if result.len() > MAX_RESULT {
            return Err(LuaError::message("gsub: the result is too large"));
        }
    }
    if count == 0 {
        drop((bytes, pattern));
        return Ok((text.clone(), 0));
    }
    result.extend_from_slice(&bytes[at..]);
    Ok((lua.create_string(result)?, count))
}

/// Longest result of a substitution: more than a Lua state may hold.
const MAX_RESULT: usize = 1 << 30;

fn replace<S: FnMut() -> Result<()>>(
    result: &mut Vec<u8>,
    text: &[u8],
    replacement: &[u8],
    matcher: &Matcher<'_, S>,
    (start, end): (usize, usize),
) -> Outcome<()> {
    let mut rest = replacement;
    while let Some(at) = memchr::memchr(b'%', rest) {
        result.extend_from_slice(&rest[..at]);
        match rest.get(at + 1) {
            Some(b'%') => result.push(b'%'),
            Some(b'0') => result.extend_from_slice(&text[start..end]),
            Some(digit) if digit.is_ascii_digit() => {
                let index = usize::from(digit - b'1');
                match matcher.capture(index, start, end)? {
                    Capture::Text(from, to) => result.extend_from_slice(&text[from..to]),
                    Capture::Position(at) => {
                        result.extend_from_slice((at + 1).to_string().as_bytes());
                    }
                }
            }
            _ => {
                let text = "invalid use of '%' in replacement string";
                return Err(LuaError::message(text));
            }
        }
        rest = &rest[at + 2..];
    }
    result.extend_from_slice(rest);
    Ok(())
}
