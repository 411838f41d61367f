//! The image of a disk.

use camino::Utf8PathBuf;
use provium_store::CacheEntry;
use std::fmt;
use std::sync::Arc;

/// The raw image of a disk. What of it lies in the cache stays there as long as this lives.
#[derive(Clone)]
pub struct DiskImage {
    /// The file, which may have holes.
    pub path: Utf8PathBuf,
    /// Its length, bytes.
    pub size: u64,
    /// The file system that is directly on it, without a partition table, as `mount -t` calls it; `None`: not known.
    pub filesystem: Option<&'static str>,
    /// A hash of what it is made from; `None` for a file that is used as it is.
    pub id: Option<String>,
    pub(super) held: Option<Arc<CacheEntry>>,
}

impl fmt::Debug for DiskImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskImage")
            .field("path", &self.path)
            .field("size", &self.size)
            .field("filesystem", &self.filesystem)
            .field("id", &self.id)
            .field("is_in_cache", &self.held.is_some())
            .finish_non_exhaustive()
    }
}
