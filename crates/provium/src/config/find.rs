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

/// The folder that a path of the command line is in, or is; what follows a file's name (a line, a
/// test) belongs to the file.
pub(super) fn folder_of(typed: &Utf8Path) -> Utf8PathBuf {
    let folder = typed.ancestors().find(|path| path.is_dir());
    let folder = folder.unwrap_or(typed);
    // Without `..`, so that its parents are those of the folder itself.
    folder
        .canonicalize_utf8()
        .unwrap_or_else(|_| folder.to_owned())
}

/// A path as people see it: from where they are.
pub(super) fn shown(path: &Utf8Path, base: &Utf8Path) -> String {
    path.strip_prefix(base).unwrap_or(path).to_string()
}

/// The default folder of the cache: `$XDG_CACHE_HOME/provium`, or in the home folder.
pub(super) fn default_cache() -> Result<Utf8PathBuf, Failure> {
    // The XDG base directory specification: a relative path is to be ignored.
    let explicit = variable("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    let parent = explicit.or_else(|| home().map(|home| home.join(".cache")));
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
        None if path.starts_with('~') => Err(Failure::Usage {
            what: format!(
                "`{path}`: only `~` and `~/` stand for a home folder; write the folder out, or \
                 `./{path}` for a folder of that name"
            ),
        }),
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
