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
    pub(crate) place: Option<Box<Place>>,
    /// What to do.
    pub(crate) hint: Option<String>,
    /// Why the file could not be read.
    pub(crate) source: Option<std::io::Error>,
}

/// A place in a configuration.
#[derive(Debug)]
pub(crate) struct Place {
    /// The file, as people see it.
    pub(crate) path: String,
    /// All of the file.
    pub(crate) text: String,
    /// The bytes of `text` that are meant.
    pub(crate) span: Range<usize>,
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(Box::new(error))
    }
}
