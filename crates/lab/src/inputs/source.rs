//! Where a fixture comes from.

use camino::Utf8PathBuf;

/// Where a fixture comes from.
#[derive(Debug, Clone)]
pub struct FixtureSource {
    /// Its source.
    pub path: Utf8PathBuf,
    /// The path as events and messages name it.
    pub display: String,
}

impl FixtureSource {
    /// Its name in messages: ``fixture `db.fixture.lua` ``.
    pub(crate) fn subject(&self) -> String {
        format!("fixture `{}`", self.display)
    }
}
