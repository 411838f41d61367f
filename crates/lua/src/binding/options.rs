//! Option tables: every key is known, every value of the right type, or the call raises.

use crate::binding::args::{bytes_of, text_of, words_of};
use crate::binding::raise::Raise;
use crate::binding::units;
use mlua::{Table, Value};
use provium_lab::nearest::nearest;
use std::collections::BTreeMap;
use std::time::Duration;

/// The keys of an option table, checked against those the call knows.
#[derive(Debug, Default)]
pub(crate) struct Options(BTreeMap<String, Value>);

impl Options {
    /// The options in `table`. A key that is not in `known` raises and names the nearest that is.
    pub(crate) fn read(table: &Table, known: &[&str]) -> Result<Self, Raise> {
        Self::read_after_list(table, 0, known)
    }

    /// The same for a table that begins with a list of `listed` values.
    pub(crate) fn read_after_list(
        table: &Table,
        listed: i64,
        known: &[&str],
    ) -> Result<Self, Raise> {
        let mut entries = BTreeMap::new();
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair?;
            if matches!(key, Value::Integer(index) if (1..=listed).contains(&index)) {
                continue;
            }
            let Value::String(key) = &key else {
                let shown = units::shown(&key);
                return Err(Raise::argument(format!(
                    "option names are strings, got the key {shown}"
                )));
            };
            let key = key.to_string_lossy();
            if !known.contains(&key.as_str()) {
                return Err(Raise::argument(unknown(
                    "option",
                    &key,
                    known.iter().copied(),
                )));
            }
            entries.insert(key, value);
        }
        Ok(Self(entries))
    }

    /// What stands under `key`; `None` for nil.
    pub(crate) fn value(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// Whether `key` is there.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    fn map<T>(
        &self,
        key: &str,
        read: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Result<Option<T>, Raise> {
        let Some(value) = self.0.get(key) else {
            return Ok(None);
        };
        read(value)
            .map(Some)
            .map_err(|why| Raise::argument(format!("option `{key}`: {why}")))
    }

    pub(crate) fn boolean(&self, key: &str) -> Result<Option<bool>, Raise> {
        self.map(key, |value| match value {
            Value::Boolean(flag) => Ok(*flag),
            other => Err(format!(
                "must be true or false, got {}",
                units::shown(other)
            )),
        })
    }

    /// Whether `key` is there and true.
    pub(crate) fn flag(&self, key: &str) -> Result<bool, Raise> {
        Ok(self.boolean(key)?.unwrap_or(false))
    }

    pub(crate) fn integer(&self, key: &str) -> Result<Option<i64>, Raise> {
        self.map(key, crate::binding::args::integer_of)
    }

    /// A whole number that fits `T`.
    pub(crate) fn unsigned<T: TryFrom<i64>>(&self, key: &str) -> Result<Option<T>, Raise> {
        self.map(key, |value| {
            let number = crate::binding::args::integer_of(value)?;
            T::try_from(number).map_err(|_| format!("{number} is out of range"))
        })
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>, Raise> {
        self.map(key, crate::binding::args::number_of)
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<String>, Raise> {
        self.map(key, text_of)
    }

    /// A string for people: bytes that are not UTF-8 become `\xNN`.
    pub(crate) fn words(&self, key: &str) -> Result<Option<String>, Raise> {
        self.map(key, words_of)
    }

    pub(crate) fn bytes(&self, key: &str) -> Result<Option<Vec<u8>>, Raise> {
        self.map(key, bytes_of)
    }

    pub(crate) fn duration(&self, key: &str) -> Result<Option<Duration>, Raise> {
        self.map(key, units::duration)
    }

    pub(crate) fn size(&self, key: &str) -> Result<Option<u64>, Raise> {
        self.map(key, units::size)
    }

    pub(crate) fn table(&self, key: &str) -> Result<Option<Table>, Raise> {
        self.map(key, |value| match value {
            Value::Table(table) => Ok(table.clone()),
            other => Err(format!("must be a table, got {}", units::shown(other))),
        })
    }

    /// A list of values under `key`.
    pub(crate) fn list(&self, key: &str) -> Result<Option<Vec<Value>>, Raise> {
        self.table(key)?.map(|table| list_of(&table)).transpose()
    }

    /// Permission bits under `key`: an integer from 0 to 0o7777.
    pub(crate) fn perm(&self, key: &str) -> Result<Option<u32>, Raise> {
        self.map(key, perm_of)
    }
}

/// Permission bits: an integer from 0 to 0o7777, or a string of octal digits. An integer that was
/// meant as octal digits (`755`) is refused.
pub(crate) fn perm_of(value: &Value) -> Result<u32, String> {
    let bad = || {
        format!(
            "permission bits are 0 to 0o7777 (or an octal string), got {}",
            units::shown(value)
        )
    };
    let bits = match value {
        Value::String(text) => {
            let text = text.to_string_lossy();
            u32::from_str_radix(text.trim_start_matches("0o"), 8).map_err(|_| bad())?
        }
        other => u32::try_from(crate::binding::args::integer_of(other)?).map_err(|_| bad())?,
    };
    let is_text = matches!(value, Value::String(_));
    if let (false, Some(octal)) = (is_text, meant_as_octal(bits)) {
        return Err(format!(
            "permission bits {bits} are 0o{bits:o}, and 0o{octal:o} is written \"{octal:04o}\" or 0x{octal:x}: say which"
        ));
    }
    if bits > 0o7777 { Err(bad()) } else { Ok(bits) }
}

/// The permission bits that somebody means who writes these in decimal digits and forgets that they
/// are octal: where that reading is usual, and the number itself is not.
fn meant_as_octal(bits: u32) -> Option<u32> {
    let digits = bits.to_string();
    let octal = u32::from_str_radix(&digits, 8).ok()?;
    let is_octal = (3..=4).contains(&digits.len()) && is_usual(octal) && !is_usual(bits);
    is_octal.then_some(octal)
}

/// Whether permission bits are such as people give: the owner may read, the group may do no more than
/// the owner, and others no more than the group.
fn is_usual(bits: u32) -> bool {
    let (owner, group, other) = ((bits >> 6) & 7, (bits >> 3) & 7, bits & 7);
    let follows = |mine: u32, theirs: u32| {
        mine & !theirs == 0 && (mine == theirs || matches!(mine, 0 | 1 | 4 | 5))
    };
    bits <= 0o7777 && owner & 4 != 0 && follows(group, owner) && follows(other, group)
}

/// The values of a table that is a list: keys 1 to n and no others.
pub(crate) fn list_of(table: &Table) -> Result<Vec<Value>, Raise> {
    let values: Vec<Value> = table.sequence_values().collect::<Result<_, _>>()?;
    let count = table.pairs::<Value, Value>().count();
    if count != values.len() {
        return Err(Raise::argument(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permission_bits_that_were_meant_as_octal() {
        for meant in [
            "755", "644", "600", "700", "640", "750", "777", "664", "666", "400", "444", "500",
            "555", "440", "660", "770", "775", "711", "1777", "4755",
        ] {
            let number: i64 = meant.parse().unwrap();
            let why = perm_of(&Value::Integer(number)).unwrap_err();
            assert!(why.contains(&format!("\"{meant:0>4}\"")), "{why}");
            assert!(why.contains(&format!("0o{number:o}")), "{why}");
            // What it is written as instead is taken.
            let octal = i64::from_str_radix(meant, 8).unwrap();
            assert_eq!(
                perm_of(&Value::Integer(octal)).unwrap(),
                u32::try_from(octal).unwrap()
            );
        }
        for plain in [0, 1, 4, 7, 8, 64, 0o444, 0o111, 0o222, 0o2755, 0o7777] {
            assert_eq!(
                perm_of(&Value::Integer(plain)).unwrap(),
                u32::try_from(plain).unwrap()
            );
        }
        assert!(perm_of(&Value::Integer(0o10000)).is_err());
    }
}
