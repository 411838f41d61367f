//! What is wrong with a configuration, and where.

use crate::failure::Failure;
use std::ops::Range;

/// Something is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct ConfigError {
    /// What.
    pub(crate) what: String,
    /// Where; `None`: the file as such.
    pub(crate) place: Option<Box<ConfigLocation>>,
    /// What to do.
    pub(crate) hint: Option<String>,
    /// Why the file could not be read.
    pub(crate) source: Option<std::io::Error>,
}

/// A place in a configuration.
#[derive(Debug)]
pub(crate) struct ConfigLocation {
    /// The file, as people see it.
    pub(crate) path: String,
    /// All of the file.
    pub(crate) text: String,
    /// The bytes of `text` that are meant.
    pub(crate) span: Range<usize>,
}

impl ConfigError {
    /// File, line, column, what is wrong and what to do, on one line.
    pub(crate) fn in_one_line(&self) -> String {
        let place = self.place.as_ref().map(|place| place.shown() + ": ");
        let hint = self.hint.as_ref().map(|hint| format!("; {hint}"));
        [place, Some(self.what.clone()), hint]
            .into_iter()
            .flatten()
            .collect()
    }
}

impl ConfigLocation {
    /// `provium.toml:3:10`.
    fn shown(&self) -> String {
        let before = self.text.get(..self.span.start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        format!("{}:{line}:{column}", self.path)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(Box::new(error))
    }
}
