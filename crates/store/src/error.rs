//! Errors of the cache.

use camino::Utf8PathBuf;
use std::io;
use std::time::Duration;

/// A failure of the cache.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The cache's folder cannot be made or written.
    #[error(
        "cannot write to the cache folder `{path}`; make it writable for this user, or set another \
         one with `cache_dir` in provium.toml"
    )]
    Unusable {
        /// The folder.
        path: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A part of the cache belongs to another user.
    #[error(
        "`{path}` in the cache belongs to user id {owner}, but this run's user id is {user}; as root, \
         change its owner (`chown -R {user} {path}`) or remove it, or set another cache with \
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
    /// The path of a lock file is not a plain file, for example a link to a file elsewhere.
    #[error("`{path}` is not a lock file of the cache: {why}; remove it")]
    NotALock {
        /// The path.
        path: Utf8PathBuf,
        /// What it is instead.
        why: &'static str,
    },
    /// A file of the cache cannot be read or written. The source names it.
    #[error("cannot access a file of the cache")]
    Io(#[from] io::Error),
    /// Another process holds a lock for too long.
    #[error("`{path}` is still locked{} after {deadline:?}; wait for that process, or end it", holder(*.pid))]
    Locked {
        /// The lock file.
        path: Utf8PathBuf,
        /// The process that holds it, if it is known.
        pid: Option<u32>,
        /// How long the caller has waited.
        deadline: Duration,
    },
    /// The entry is damaged, and cannot be rebuilt as long as another process uses it.
    #[error(
        "`{path}` is damaged ({why}), and another run still uses it; wait for that run, or end it"
    )]
    DamagedInUse {
        /// The entry.
        path: Utf8PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The manifest of a new entry cannot be encoded.
    #[error("cannot encode the manifest of a cache entry")]
    Manifest(#[from] serde_json::Error),
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" by process {pid}"))
}
