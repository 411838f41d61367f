//! The folder of the host in which the disks of a VM keep what was written to them, and their sockets.

use camino::{Utf8Path, Utf8PathBuf};
use provium_store::{Bucket, StagingFolder, StoreError};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Longest path of a socket, bytes (`unix(7)`), without its last byte.
const LONGEST_SOCKET_PATH: usize = 107;

/// A folder that is removed with the last disk that uses it. If the process is killed, the next run that opens the
/// cache removes it.
#[derive(Debug)]
pub(crate) struct DiskScratch {
    folder: StagingFolder,
    /// Where its own path is too long for sockets.
    sockets: OnceLock<tempfile::TempDir>,
    next: AtomicU64,
}

impl DiskScratch {
    /// A folder in the bucket, so that a snapshot in that bucket can share files with it.
    pub(crate) fn new(bucket: &Bucket) -> Result<Arc<Self>, StoreError> {
        Ok(Arc::new(Self {
            folder: bucket.staging_folder()?,
            sockets: OnceLock::new(),
            next: AtomicU64::new(0),
        }))
    }

    /// A new, empty folder in it.
    pub(crate) fn part(&self) -> io::Result<Utf8PathBuf> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.path().join(number.to_string());
        fs_err::create_dir(&path)?;
        Ok(path)
    }

    /// A path for a new socket.
    pub(crate) fn socket(&self) -> io::Result<Utf8PathBuf> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("{number}.sock");
        let path = self.folder.path().join(&name);
        if path.as_str().len() <= LONGEST_SOCKET_PATH {
            return Ok(path);
        }
        let folder = match self.sockets.get() {
            Some(folder) => folder,
            None => {
                let made = tempfile::Builder::new().prefix("provium-").tempdir()?;
                self.sockets.get_or_init(|| made)
            }
        };
        let folder = Utf8Path::from_path(folder.path());
        let folder = folder.ok_or_else(|| io::Error::other("TMPDIR is not valid UTF-8"))?;
        Ok(folder.join(name))
    }
}
