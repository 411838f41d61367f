//! What can go wrong with the cache.

use camino::Utf8PathBuf;
use std::io;
use std::time::Duration;

/// A failure of the cache.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The cache's folder cannot be made or written.
    #[error(
        "the cache folder `{path}` cannot be written; make it writable for this user, or name \
         another one with `cache_dir` in provium.toml"
    )]
    Unusable {
        /// The folder.
        path: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A part of the cache belongs to another user.
    #[error(
        "`{path}` in the cache belongs to the user with id {owner}, and this run's user has id {user}; \
         as root, give it back (`chown -R {user} {path}`) or remove it, or name another cache with \
         `cache_dir` in provium.toml"
    )]
    Foreign {
        /// The folder or file.
        path: Utf8PathBuf,
        /// The user that it belongs to.
        owner: u32,
        /// The user of this run.
        user: u32,
    },
    /// Something else stands where a lock file belongs, as a link to a file elsewhere.
    #[error("`{path}` is not a lock file of the cache: {why}; remove it")]
    NotALock {
        /// The path.
        path: Utf8PathBuf,
        /// What it is instead.
        why: &'static str,
    },
    /// A file of the cache could not be read or written. The source names it.
    #[error("a file of the cache failed")]
    Io(#[from] io::Error),
    /// Somebody else holds a lock for too long.
    #[error("`{path}` is still locked{} after {deadline:?}; wait for that process, or end it", holder(*.pid))]
    Locked {
        /// The lock file.
        path: Utf8PathBuf,
        /// Who holds it, if that is known.
        pid: Option<u32>,
        /// How long was waited.
        deadline: Duration,
    },
    /// What is there cannot be trusted, and cannot be made again as long as somebody uses it.
    #[error(
        "`{path}` is damaged ({why}), and another run still uses it; wait for that run, or end it"
    )]
    DamagedInUse {
        /// The entry.
        path: Utf8PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The manifest of a new entry could not be written.
    #[error("an entry's manifest cannot be written")]
    Manifest(#[from] serde_json::Error),
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" by process {pid}"))
}
