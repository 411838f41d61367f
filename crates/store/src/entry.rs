//! An entry in use, and what is told while one is looked for.

use crate::key::Key;
use crate::lock::{Holder, Shared};
use camino::{Utf8Path, Utf8PathBuf};
use std::time::SystemTime;

/// An entry that is whole. As long as this lives, nobody removes it.
#[derive(Debug)]
pub struct Entry {
    pub(crate) path: Utf8PathBuf,
    pub(crate) _held: Shared,
}

impl Entry {
    /// Its folder.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// A file of it.
    pub fn file(&self, name: &str) -> Utf8PathBuf {
        self.path.join(name)
    }
}

/// An entry as whoever makes room sees it.
#[derive(Debug, Clone)]
pub struct EntryInfo {
    /// Its key.
    pub key: Key,
    /// What its files take on the disk, bytes.
    pub size: u64,
    /// When it was last given out.
    pub used: SystemTime,
}

/// Something the user may want to know while an entry is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice<'a> {
    /// Another process is making or using the entry; reported once.
    Waiting {
        /// Who, if that is known.
        holder: Option<&'a Holder>,
    },
    /// The entry was there, but not to be trusted: it is removed.
    Damaged {
        /// Its folder.
        path: &'a Utf8Path,
        /// What was wrong.
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
