//! Saved disks: a folder with the files of the overlay, and a description for a manifest.
//!
//! | file | what |
//! |---|---|
//! | `layer-0`, `layer-1`, … | data of the overlay: links to the disk's own files where the file system can |
//! | `base` | a copy of an image that is written in place |
//! | `map` | where each block is, and the writes that are not durable; see [`format`] |
//!
//! A saved disk never changes. A restored disk reads from its files and writes to a new one, so any number of disks
//! use a saved one at the same time.

mod format;
mod saved_disk;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use format::Content;
pub use saved_disk::SavedDisk;
