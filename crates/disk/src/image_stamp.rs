//! What tells that an image has changed that must not, since disks are copies of it.

use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;

/// What tells that an image has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageStamp {
    length: u64,
    modified: i64,
    modified_nanoseconds: i64,
}

impl ImageStamp {
    /// That of an open file. A file that takes its name later is another one.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let data = file.metadata()?;
        Ok(Self {
            length: data.len(),
            modified: data.mtime(),
            modified_nanoseconds: data.mtime_nsec(),
        })
    }
}
