//! Where the configuration and the cache are.

use crate::failure::Failure;
use camino::{Utf8Path, Utf8PathBuf};

/// The file of that name in `start` or its nearest parent.
pub(super) fn nearest(start: &Utf8Path, name: &str) -> Option<Utf8PathBuf> {
    start
        .ancestors()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// A path as people see it: from where they are.
pub(super) fn shown(path: &Utf8Path, base: &Utf8Path) -> String {
    path.strip_prefix(base).unwrap_or(path).to_string()
}

/// The cache's folder where nobody says otherwise: `$XDG_CACHE_HOME/provium`, or in the home folder.
pub(super) fn default_cache() -> Result<Utf8PathBuf, Failure> {
    // The XDG base directory specification: a relative path is to be passed over.
    let told = variable("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    let parent = told.or_else(|| home().map(|home| home.join(".cache")));
    parent
        .map(|parent| parent.join("provium"))
        .ok_or(Failure::NoHome)
}

/// `path`, from `directory`, with `~` for the home folder.
pub(super) fn expanded(path: &str, directory: &Utf8Path) -> Result<Utf8PathBuf, Failure> {
    let rest = match path {
        "~" => Some(""),
        other => other.strip_prefix("~/"),
    };
    match rest {
        Some(rest) => home().map(|home| home.join(rest)).ok_or(Failure::NoHome),
        None => Ok(directory.join(path)),
    }
}

fn home() -> Option<Utf8PathBuf> {
    variable("HOME")
}

fn variable(name: &str) -> Option<Utf8PathBuf> {
    std::env::var(name)
        .ok()
        .filter(|value| !value.is_empty())
        .map(Utf8PathBuf::from)
}
