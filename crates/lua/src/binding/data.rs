//! Plain data: what Lua tables, JSON, msgpack and test metadata have in common.
//!
//! A Lua table with keys 1 to n (gaps become nil) is a list; any other is a map. An empty table is a
//! map, unless it was marked as a list.

use crate::binding::preview::type_name;
use crate::engine::hook;
use mlua::{Lua, Table, Value};
use provium_events::Value as Data;

/// Deepest nesting that is followed.
const MAX_DEPTH: usize = 120;
/// Longest list that gaps may make of a table.
const MAX_LIST: i64 = 16 * 1024 * 1024;
/// Most values that are followed. Tables that share their parts have more of them than memory holds.
const MAX_VALUES: usize = 4 * 1024 * 1024;
/// Values between two looks at the clock.
const STEPS: usize = 10_000;

/// How tables and their keys are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Keys become strings, strings must be UTF-8, numbers finite.
    Json,
    /// Everything as it is.
    Free,
}

/// The marks that Lua code uses.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    /// Stands for null.
    pub(crate) null: Value,
    /// Metatable of tables that are lists even when empty.
    pub(crate) list: Table,
}

/// The data in a Lua value. The error says what cannot be data, and where it is.
pub(crate) fn from_lua(
    lua: &Lua,
    value: &Value,
    form: Form,
    marks: Option<&Marks>,
) -> Result<Data, String> {
    Reader::new(lua, form, marks, MAX_VALUES).read(value)
}

/// The data as a Lua value. With `null`, it stands for every null inside.
pub(crate) fn to_lua(
    data: &Data,
    lua: &Lua,
    marks: Option<&Marks>,
    null: Option<&Value>,
) -> mlua::Result<Value> {
    Ok(match data {
        Data::Nil => null.cloned().unwrap_or(Value::Nil),
        Data::Bool(flag) => Value::Boolean(*flag),
        Data::Int(number) => Value::Integer(*number),
        Data::Float(number) => Value::Number(*number),
        Data::Text(text) => Value::String(lua.create_string(text)?),
        Data::Bytes(bytes) => Value::String(lua.create_string(bytes)?),
        Data::List(items) => {
            let table = lua.create_table_with_capacity(items.len(), 0)?;
            for (index, item) in items.iter().enumerate() {
                table.raw_set(index + 1, to_lua(item, lua, marks, null)?)?;
            }
            if let (true, Some(marks)) = (items.is_empty(), marks) {
                table.set_metatable(Some(marks.list.clone()))?;
            }
            Value::Table(table)
        }
        Data::Map(entries) => {
            let table = lua.create_table_with_capacity(0, entries.len())?;
            for (key, value) in entries {
                let key = to_lua(key, lua, None, None)?;
                let usable =
                    !key.is_nil() && !matches!(key, Value::Number(number) if number.is_nan());
                if usable {
                    table.raw_set(key, to_lua(value, lua, marks, null)?)?;
                }
            }
            Value::Table(table)
        }
    })
}

struct Reader<'a> {
    lua: &'a Lua,
    form: Form,
    marks: Option<&'a Marks>,
    /// Most values that are followed.
    most: usize,
    /// Values so far, those that a list's gaps stand for included.
    values: usize,
    /// Tables that are being read, outermost first.
    open: Vec<*const std::ffi::c_void>,
    path: String,
}

impl<'a> Reader<'a> {
    fn new(lua: &'a Lua, form: Form, marks: Option<&'a Marks>, most: usize) -> Self {
        Self {
            lua,
            form,
            marks,
            most,
            values: 0,
            open: Vec::new(),
            path: String::new(),
        }
    }

    fn fail<T>(&self, why: &str) -> Result<T, String> {
        if self.path.is_empty() {
            Err(why.to_owned())
        } else {
            Err(format!("{why} (at {})", self.path))
        }
    }

    /// Counts values that are about to be read.
    fn count(&mut self, more: usize) -> Result<(), String> {
        let before = self.values;
        self.values = before.saturating_add(more);
        if self.values > self.most {
            return self.fail(&format!("cannot encode more than {} values", self.most));
        }
        if before / STEPS != self.values / STEPS {
            hook::check(self.lua).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn read(&mut self, value: &Value) -> Result<Data, String> {
        self.count(1)?;
        if self.marks.is_some_and(|marks| marks.null == *value) {
            return Ok(Data::Nil);
        }
        match value {
            Value::Nil => Ok(Data::Nil),
            Value::Boolean(flag) => Ok(Data::Bool(*flag)),
            Value::Integer(number) => Ok(Data::Int(*number)),
            Value::Number(number) if self.form == Form::Json && !number.is_finite() => {
                self.fail(&format!("cannot encode the number {number}"))
            }
            Value::Number(number) => Ok(Data::Float(*number)),
            Value::String(text) => {
                let bytes = text.as_bytes().to_vec();
                if self.form == Form::Json && std::str::from_utf8(&bytes).is_err() {
                    return self.fail("cannot encode a string that is not UTF-8");
                }
                Ok(Data::of_bytes(bytes))
            }
            Value::Table(table) => self.read_table(table),
            other => self.fail(&format!("cannot encode a {}", type_name(other))),
        }
    }

    fn read_table(&mut self, table: &Table) -> Result<Data, String> {
        let identity = table.to_pointer();
        if self.open.contains(&identity) {
            return self.fail("cannot encode a table that contains itself");
        }
        if self.open.len() >= MAX_DEPTH {
            return self.fail("cannot encode tables nested so deeply");
        }
        self.open.push(identity);
        let result = self.read_entries(table);
        self.open.pop();
        result
    }

    fn read_entries(&mut self, table: &Table) -> Result<Data, String> {
        let mut longest = 0;
        let mut is_list = true;
        let mut entries = Vec::new();
        for pair in table.pairs::<Value, Value>() {
            // Out of memory, or of places for values that Rust holds (a million).
            let (key, value) = pair.map_err(|error| error.to_string())?;
            match key {
                Value::Integer(index @ 1..=MAX_LIST) => longest = longest.max(index),
                _ => is_list = false,
            }
            entries.push((key, value));
        }
        let marked = self
            .marks
            .is_some_and(|marks| table.metatable().as_ref() == Some(&marks.list));
        if is_list && (marked || !entries.is_empty()) {
            return self.read_list(entries, longest);
        }
        let mut map = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let key = self.read_key(&key)?;
            let depth = self.path.len();
            self.path.push_str(&format!(".{key}"));
            let value = self.read(&value);
            self.path.truncate(depth);
            map.push((key, value?));
        }
        map.sort_by_key(|(key, _)| key.to_string());
        Ok(Data::Map(map))
    }

    fn read_list(&mut self, entries: Vec<(Value, Value)>, longest: i64) -> Result<Data, String> {
        let length = usize::try_from(longest).unwrap_or(0);
        self.count(length - entries.len().min(length))?;
        let mut items = vec![Data::Nil; length];
        for (key, value) in entries {
            let Value::Integer(index) = key else { continue };
            let depth = self.path.len();
            self.path.push_str(&format!("[{index}]"));
            let item = self.read(&value);
            self.path.truncate(depth);
            if let Some(slot) = usize::try_from(index - 1)
                .ok()
                .and_then(|at| items.get_mut(at))
            {
                *slot = item?;
            }
        }
        Ok(Data::List(items))
    }

    fn read_key(&mut self, key: &Value) -> Result<Data, String> {
        match (self.form, key) {
            (Form::Json, Value::Integer(number)) => Ok(Data::Text(number.to_string())),
            (Form::Json, Value::Number(number)) => Ok(Data::Text(number.to_string())),
            (Form::Json, Value::String(_)) | (Form::Free, _) => self.read(key),
            (Form::Json, other) => {
                self.fail(&format!("cannot encode a {} as a key", type_name(other)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_that_tables_share_count_each_time() {
        let lua = Lua::new();
        let read = |code: &str, most| {
            let value = lua.load(code).eval().unwrap();
            Reader::new(&lua, Form::Json, None, most).read(&value)
        };
        let shared = "local x = {} for i = 1, DEPTH do x = {x, x} end return x";
        // A table of depth 3 has 15 tables in it, itself included.
        let small = shared.replace("DEPTH", "3");
        assert!(read(&small, 15).is_ok());
        let error = read(&small, 14).unwrap_err();
        assert!(
            error.starts_with("cannot encode more than 14 values (at [2]"),
            "{error}"
        );
        // More values than there is time for.
        let error = read(&shared.replace("DEPTH", "60"), 1000).unwrap_err();
        assert!(error.contains("more than 1000 values"), "{error}");
        // The gaps of a list count.
        let error = read("return {[1] = 1, [100] = 1}", 100).unwrap_err();
        assert!(error.contains("more than 100 values"), "{error}");
    }
}
