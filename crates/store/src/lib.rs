//! The cache on disk: buckets, keys, locks, atomic installs.
//!
//! ```text
//! CACHE/                      0700, of one user
//!   guests-v1/                a bucket: a kind of entry, in one version of its layout
//!     LOCKS/KEY               locked shared while an entry is used, exclusively while it is built or
//!                             removed; its modification time is the entry's last use
//!     KEY/                    an entry: complete, or absent
//!       manifest.json         the files that belong to it, with sizes and checksums
//!     .tmp-PID-START-N/       a staging folder, locked by the process that fills it
//!   output/                   folders of runs, of one kind
//!     17/                     what a run leaves for its user, locked as long as the run lives
//! ```
//!
//! Life of an entry: a caller asks a [`Bucket`] for a [`Key`]. If the entry exists and matches its
//! manifest, the caller gets a [`CacheEntry`], which prevents its removal. Otherwise one process gets
//! the [`BuildPermit`], fills a [`StagingFolder`], and installs it: the files are synced, then the
//! folder is renamed. The others wait, and a [`Notice`] names the process that they wait for. A
//! damaged entry, or one of another version, is reported, removed and rebuilt. Opening a bucket removes
//! the staging folders of killed processes.
//!
//! [`Cache::evict`] removes the least recently used entries.
//!
//! Folders that a user manages himself are not entries: they are filled in a [`StagingFolder`] beside
//! their path, and their [`Seal`] shows whether a folder is complete and which one it is.
//!
//! This crate does not know what the entries are, except which kinds take long to rebuild.

mod bucket;
mod build;
mod cache;
mod entry;
mod error;
mod eviction;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod json_file;
mod key;
mod lock;
mod manifest;
mod private;
mod replace;
mod run_folder;
mod seal;
mod temporary;

pub use bucket::{Bucket, size_on_disk};
pub use build::{BuildClaim, BuildPermit, StagingFolder};
pub use cache::Cache;
pub use entry::{CacheEntry, EntryInfo, Notice};
pub use error::StoreError;
pub use eviction::{Candidate, Eviction, plan};
pub use json_file::{read_json, write_json};
pub use key::{Key, KeyBuilder};
pub use lock::{ExclusiveLock, LockFile, LockHolder, SharedLock, WaitLimit};
pub use replace::follow_links;
pub use run_folder::{RunFolder, RunFolderLimits};
pub use seal::{SEAL, Seal};
