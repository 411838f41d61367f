//! Searches folders for test files or fixtures.

use crate::error::DiscoverError;
use crate::file_kind::FileKind;
use camino::{Utf8Path, Utf8PathBuf};
use provium_events::printable::text_of;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// A file that was found, and under what.
pub(crate) struct DiscoveredFile {
    pub(crate) start: Utf8PathBuf,
    pub(crate) whole: bool,
    pub(crate) lines: Vec<u32>,
    pub(crate) names: Vec<String>,
}

/// Adds all files of the kind below `directory` to `found`; `start` is where the search began.
pub(crate) fn walk(
    directory: &Utf8Path,
    start: &Utf8Path,
    kind: FileKind,
    found: &mut BTreeMap<Utf8PathBuf, DiscoveredFile>,
) -> Result<(), DiscoverError> {
    let unreadable = |source| DiscoverError::Unreadable {
        path: directory.to_owned(),
        source,
    };
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            // Only what is looked for and cannot be named is worth stopping for.
            if holds(&entry.path(), kind) {
                return Err(DiscoverError::NotUtf8 {
                    path: text_of(entry.path().as_os_str().as_bytes()),
                });
            }
            continue;
        };
        if name.starts_with('.') {
            continue;
        }
        let path = directory.join(name);
        let file_type = entry.file_type().map_err(unreadable)?;
        if file_type.is_dir() {
            walk(&path, start, kind, found)?;
        } else if name.ends_with(kind.suffix()) && !path.is_dir() {
            if let Some(what) = not_a_file(path.as_std_path()) {
                return Err(DiscoverError::NotAFile {
                    path: path.into_string(),
                    what,
                });
            }
            let start = start.to_owned();
            let whole = || DiscoveredFile {
                start,
                whole: true,
                lines: Vec::new(),
                names: Vec::new(),
            };
            found.entry(path).or_insert_with(whole).whole = true;
        }
    }
    Ok(())
}

/// What `path` is, if it is neither a regular file nor leads to one. Opening a pipe would wait for
/// a writer.
pub(crate) fn not_a_file(path: &Path) -> Option<&'static str> {
    use std::os::unix::fs::FileTypeExt as _;
    let Ok(metadata) = path.metadata() else {
        return Some(if path.is_symlink() {
            "a link to nothing"
        } else {
            "not there any more"
        });
    };
    let kind = metadata.file_type();
    if kind.is_file() {
        None
    } else if kind.is_dir() {
        Some("a folder")
    } else if kind.is_fifo() {
        Some("a named pipe")
    } else if kind.is_socket() {
        Some("a socket")
    } else {
        Some("a device")
    }
}

/// Whether what is looked for is at or below a path that cannot be named. A folder that cannot be
/// read has nothing to run.
fn holds(path: &Path, kind: FileKind) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    if name.starts_with(b".") {
        return false;
    }
    if path.is_symlink() || !path.is_dir() {
        return name.ends_with(kind.suffix().as_bytes());
    }
    let entries = path.read_dir().into_iter().flatten();
    entries
        .filter_map(Result::ok)
        .any(|entry| holds(&entry.path(), kind))
}
