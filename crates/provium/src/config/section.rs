//! A table of the configuration, read key by key, with the place of everything that is wrong.
//!
//! The only place that knows the TOML library.

use super::error::{ConfigError, ConfigLocation};
use crate::suggestion::did_you_mean;
use camino::{Utf8Path, Utf8PathBuf};
use provium_units::{parse_duration, parse_size};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Bytes of the configuration's text.
pub(super) type Span = Range<usize>;

/// A value with its place.
type SpannedValue<T> = Option<(T, Span)>;

/// A configuration's file.
#[derive(Debug)]
pub(super) struct Document {
    path: Utf8PathBuf,
    shown: String,
    text: String,
}

/// A table of it.
pub(super) struct Section<'a> {
    document: &'a Arc<Document>,
    table: &'a DeTable<'a>,
}

impl Document {
    /// Reads the file at `path`, which people see as `shown`.
    pub(super) fn read(path: &Utf8Path, shown: String) -> Result<Arc<Self>, ConfigError> {
        match fs_err::read_to_string(path) {
            Ok(text) => Ok(Arc::new(Self {
                path: path.to_owned(),
                shown,
                text,
            })),
            Err(source) => Err(ConfigError {
                what: format!("the configuration `{shown}` cannot be read"),
                place: None,
                hint: None,
                source: Some(source),
            }),
        }
    }

    /// The file's folder.
    pub(super) fn directory(&self) -> &Utf8Path {
        self.path.parent().unwrap_or(Utf8Path::new("/"))
    }

    /// All of its tables.
    pub(super) fn table(&self) -> Result<DeTable<'_>, ConfigError> {
        match DeTable::parse(&self.text) {
            Ok(table) => Ok(table.into_inner()),
            Err(error) => {
                // The library points past the end for what is missing there.
                let end = self.text.len();
                let span = error
                    .span()
                    .map(|span| span.start.min(end)..span.end.min(end));
                Err(self.error(span.unwrap_or(0..0), error.message().to_owned()))
            }
        }
    }

    /// Something is wrong with those bytes.
    pub(super) fn error(&self, span: Span, what: String) -> ConfigError {
        let place = ConfigLocation {
            path: self.shown.clone(),
            text: self.text.clone(),
            span,
        };
        ConfigError {
            what,
            place: Some(Box::new(place)),
            hint: None,
            source: None,
        }
    }
}

impl<'a> Section<'a> {
    /// The document's outermost table.
    pub(super) fn top(document: &'a Arc<Document>, table: &'a DeTable<'a>) -> Self {
        Self { document, table }
    }

    pub(super) fn document(&self) -> &'a Arc<Document> {
        self.document
    }

    pub(super) fn directory(&self) -> &Utf8Path {
        self.document.directory()
    }

    pub(super) fn error(&self, span: Span, what: String) -> ConfigError {
        self.document.error(span, what)
    }

    /// Its keys, in the file's order.
    pub(super) fn keys(&self) -> Vec<String> {
        let mut keys: Vec<_> = self.table.keys().collect();
        keys.sort_by_key(|key| key.span().start);
        keys.into_iter()
            .map(|key| key.get_ref().to_string())
            .collect()
    }

    /// Refuses keys that are not in `known`.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), ConfigError> {
        let mut unknown: Vec<_> = self
            .table
            .keys()
            .filter(|key| !known.contains(&key.get_ref().as_ref()))
            .collect();
        unknown.sort_by_key(|key| key.span().start);
        let Some(key) = unknown.first() else {
            return Ok(());
        };
        let name = key.get_ref();
        let what = format!(
            "unknown key `{name}`{}",
            did_you_mean(name, known.iter().copied())
        );
        Err(self.error(key.span(), what))
    }

    /// Where the key itself is.
    pub(super) fn key_span(&self, key: &str) -> Option<Span> {
        self.table
            .keys()
            .find(|have| have.get_ref() == key)
            .map(Spanned::span)
    }

    pub(super) fn section(&self, key: &str) -> Result<Option<Section<'a>>, ConfigError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let table = value.get_ref().as_table();
        let table = table.ok_or_else(|| self.wrong(key, value, "a table"))?;
        Ok(Some(Section {
            document: self.document,
            table,
        }))
    }

    /// The tables of a list, each with its place.
    pub(super) fn sections(
        &self,
        key: &str,
    ) -> Result<Option<Vec<(Section<'a>, Span)>>, ConfigError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let expected = "a list of tables";
        let list = value.get_ref().as_array();
        let list = list.ok_or_else(|| self.wrong(key, value, expected))?;
        let mut sections = Vec::new();
        for item in list.iter() {
            let table = item.get_ref().as_table();
            let table = table.ok_or_else(|| self.wrong(key, item, expected))?;
            let section = Section {
                document: self.document,
                table,
            };
            sections.push((section, item.span()));
        }
        Ok(Some(sections))
    }

    pub(super) fn string(&self, key: &str) -> Result<SpannedValue<String>, ConfigError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let text = value.get_ref().as_str();
        let text = text.ok_or_else(|| self.wrong(key, value, "a string"))?;
        if text.trim().is_empty() {
            return Err(self.error(value.span(), format!("`{key}` is empty")));
        }
        Ok(Some((text.to_owned(), value.span())))
    }

    pub(super) fn is_string(&self, key: &str) -> bool {
        self.value(key)
            .is_some_and(|value| value.get_ref().is_str())
    }

    /// The string under the key; any other value is ignored.
    pub(super) fn string_if_any(&self, key: &str) -> SpannedValue<String> {
        let value = self.value(key)?;
        Some((value.get_ref().as_str()?.to_owned(), value.span()))
    }

    pub(super) fn strings(&self, key: &str) -> Result<Option<Vec<(String, Span)>>, ConfigError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let expected = "a list of strings";
        let list = value.get_ref().as_array();
        let list = list.ok_or_else(|| self.wrong(key, value, expected))?;
        let mut strings = Vec::new();
        for item in list.iter() {
            let text = item.get_ref().as_str();
            let text = text.ok_or_else(|| self.wrong(key, item, expected))?;
            strings.push((text.to_owned(), item.span()));
        }
        Ok(Some(strings))
    }

    pub(super) fn boolean(&self, key: &str) -> Result<SpannedValue<bool>, ConfigError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let flag = value.get_ref().as_bool();
        let flag = flag.ok_or_else(|| self.wrong(key, value, "true or false"))?;
        Ok(Some((flag, value.span())))
    }

    /// A whole number from 1.
    pub(super) fn count(&self, key: &str) -> Result<SpannedValue<u32>, ConfigError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let number = integer(value.get_ref()).and_then(|number| u32::try_from(number).ok());
        let number = number.filter(|number| *number > 0);
        let number = number.ok_or_else(|| self.wrong(key, value, "a whole number from 1"))?;
        Ok(Some((number, value.span())))
    }

    /// Bytes, as a number or with a unit, and more than none.
    pub(super) fn size(&self, key: &str) -> Result<SpannedValue<u64>, ConfigError> {
        match self.size_or_zero(key)? {
            Some((0, span)) => Err(self.error(span, format!("`{key}` must be more than 0"))),
            size => Ok(size),
        }
    }

    /// Bytes, as a number or with a unit.
    pub(super) fn size_or_zero(&self, key: &str) -> Result<SpannedValue<u64>, ConfigError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let size = match value.get_ref() {
            DeValue::String(text) => {
                parse_size(text).map_err(|error| self.error(value.span(), error.to_string()))?
            }
            other => integer(other)
                .and_then(|number| u64::try_from(number).ok())
                .ok_or_else(|| {
                    self.wrong(key, value, "a size: bytes, or a string like \"512M\"")
                })?,
        };
        Ok(Some((size, value.span())))
    }

    /// Seconds, as a number or with a unit.
    pub(super) fn duration(&self, key: &str) -> Result<SpannedValue<Duration>, ConfigError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            _ => {
                return Err(self.wrong(key, value, "a duration: seconds, or a string like \"2m\""));
            }
        };
        let duration =
            parse_duration(&text).map_err(|error| self.error(value.span(), error.to_string()))?;
        Ok(Some((duration, value.span())))
    }

    fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.get(key)
    }

    fn wrong(&self, key: &str, value: &Spanned<DeValue<'_>>, expected: &str) -> ConfigError {
        let found = match value.get_ref() {
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            other => format!("a value of type {}", other.type_str()),
        };
        self.error(
            value.span(),
            format!("`{key}` must be {expected}, found {found}"),
        )
    }
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}
