//! The cache on disk: buckets, keys, locks, atomic installs.
//!
//! ```text
//! CACHE/                      0700, of one user
//!   guests-v1/                a bucket: a kind of entry, in one version of its layout
//!     LOCKS/KEY               held shared while an entry is used, alone while it is made or removed;
//!                             its modification time is the entry's last use
//!     KEY/                    an entry: whole, or not there
//!       manifest.json         what belongs to it, with sizes and checksums
//!     .tmp-PID-START-N/       an entry that is being made, locked by the process that makes it
//! ```
//!
//! Life of an entry: a [`Bucket`] is asked for a [`Key`]. If the entry is there and its manifest
//! fits, it is given out as an [`Entry`], which keeps it from being removed. Else one process fills a
//! temporary folder, syncs it and renames it into place; the others wait, told by a [`Notice`] for
//! whom. A damaged or foreign entry is told of, removed and made again. What a killed process left
//! is swept when a bucket is opened.
//!
//! [`Cache::make_room`] removes what was not used for longest.
//!
//! Folders that a user looks after himself are no entries: they are filled in a [`Draft`] beside their
//! place, and their [`Seal`] says whether one is whole and which one it is.
//!
//! This crate knows nothing of what the entries are, but for which kinds cost more than others.

mod bucket;
mod cache;
mod entry;
mod error;
mod eviction;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod key;
mod lock;
mod making;
mod manifest;
mod replace;
mod seal;
mod sweep;

pub use bucket::{Bucket, size_on_disk};
pub use cache::Cache;
pub use entry::{Entry, EntryInfo, Notice};
pub use error::StoreError;
pub use eviction::{Candidate, Room, plan};
pub use key::{Key, KeyBuilder};
pub use lock::{Exclusive, Holder, LockFile, Shared, WaitLimit};
pub use making::{Claim, Draft, Making};
pub use replace::follow_links;
pub use seal::{SEAL, Seal};
