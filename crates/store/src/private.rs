//! Folders of the cache that belong to this user alone.

use crate::error::StoreError;
use camino::Utf8Path;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};

/// Makes a folder, and those above it, for this user alone. An existing folder keeps its mode: the
/// user may share it with others on purpose.
pub(crate) fn make_private(path: &Utf8Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Refuses what belongs to another user: its owner could replace what this user's guests boot from.
pub(crate) fn check_owner(path: &Utf8Path) -> Result<(), StoreError> {
    let owner = fs_err::metadata(path)?.uid();
    let user = rustix::process::geteuid().as_raw();
    if owner == user {
        return Ok(());
    }
    Err(StoreError::Foreign {
        path: path.to_owned(),
        owner,
        user,
    })
}
