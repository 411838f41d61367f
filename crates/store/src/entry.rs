//! An entry in use, and what is reported while one is looked up.

use crate::key::Key;
use crate::lock::{LockHolder, SharedLock};
use camino::{Utf8Path, Utf8PathBuf};
use std::time::SystemTime;

/// An entry that is complete. It is not removed as long as this lives.
#[derive(Debug)]
pub struct CacheEntry {
    pub(crate) path: Utf8PathBuf,
    pub(crate) _lock: SharedLock,
}

impl CacheEntry {
    /// Its folder.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// A file of it.
    pub fn file(&self, name: &str) -> Utf8PathBuf {
        self.path.join(name)
    }
}

/// What eviction and listings know of an entry.
#[derive(Debug, Clone)]
pub struct EntryInfo {
    /// Its key.
    pub key: Key,
    /// What its files take on the disk, bytes.
    pub size: u64,
    /// When it was last used.
    pub used: SystemTime,
}

/// An event of a look-up that the user may want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice<'a> {
    /// Another process is building or using the entry. Reported once per look-up.
    Waiting {
        /// The process, if it is known.
        holder: Option<&'a LockHolder>,
    },
    /// The entry is damaged, and is removed.
    Damaged {
        /// Its folder.
        path: &'a Utf8Path,
        /// What is wrong with it.
        why: &'a str,
    },
}

impl Notice<'_> {
    /// The notice as a sentence for the user; `what` names the entry, such as `a boot template`.
    pub fn describe(&self, what: &str) -> String {
        match self {
            Self::Waiting {
                holder: Some(holder),
            } => format!("waiting for process {}, which is making {what}", holder.pid),
            Self::Waiting { holder: None } => format!("waiting for another process and {what}"),
            Self::Damaged { path, why } => {
                format!("{what} in `{path}` was damaged ({why}): it is removed and rebuilt")
            }
        }
    }
}
