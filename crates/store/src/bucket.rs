//! Buckets: entries of one kind, looked up, listed and removed.

use crate::entry::{CacheEntry, EntryInfo, Notice};
use crate::error::StoreError;
use crate::key::Key;
use crate::lock::{ExclusiveLock, LockFile, LockHolder, WaitLimit};
use crate::manifest::Manifest;
use crate::temporary;
use camino::{Utf8Path, Utf8PathBuf};
use std::time::{Duration, SystemTime};

/// The folder with the locks of a bucket.
pub(crate) const LOCKS: &str = "LOCKS";

/// How long a caller waits for another process to build an entry.
pub(crate) const DEADLINE: Duration = Duration::from_secs(1800);

/// Entries of one kind, in one version of their layout.
#[derive(Debug, Clone)]
pub struct Bucket(Utf8PathBuf);

/// Receives waits and damage.
pub(crate) type Notify<'a> = &'a (dyn Fn(Notice<'_>) + Send + Sync);

impl Bucket {
    pub(crate) fn at(path: Utf8PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn locks(&self) -> Utf8PathBuf {
        self.0.join(LOCKS)
    }

    /// Its folder.
    pub fn path(&self) -> &Utf8Path {
        &self.0
    }

    /// The entry, if it exists and is complete. Waits while another process builds it.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when that takes too long.
    pub async fn get(
        &self,
        key: &Key,
        notify: Notify<'_>,
    ) -> Result<Option<CacheEntry>, StoreError> {
        self.get_within(key, DEADLINE.into(), notify).await
    }

    pub(crate) async fn get_within(
        &self,
        key: &Key,
        limit: WaitLimit,
        notify: Notify<'_>,
    ) -> Result<Option<CacheEntry>, StoreError> {
        let waiting = |holder: Option<&LockHolder>| notify(Notice::Waiting { holder });
        let lock = self.lock(key).shared(limit, &waiting).await?;
        let path = self.entry(key);
        Ok(Manifest::check(&path, key)
            .is_ok()
            .then_some(CacheEntry { path, _lock: lock }))
    }

    /// All entries, complete or not, in the order of their keys.
    pub fn entries(&self) -> Result<Vec<EntryInfo>, StoreError> {
        let mut found = Vec::new();
        let unreadable = |error: std::io::Error| {
            let text = format!("cannot read `{}`: {error}", self.0);
            StoreError::Io(std::io::Error::new(error.kind(), text))
        };
        for entry in self.0.read_dir_utf8().map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let Some(key) = Key::parse(entry.file_name()) else {
                continue;
            };
            let lock = fs_err::metadata(self.locks().join(entry.file_name()));
            let used = lock
                .and_then(|lock| lock.modified())
                .unwrap_or(SystemTime::UNIX_EPOCH);
            found.push(EntryInfo {
                key,
                size: size_on_disk(entry.path()),
                used,
            });
        }
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    /// Locks `key` exclusively; waits for the processes that hold it. Others that want the lock wait
    /// meanwhile, and are shown the purpose. There need not be an entry with the key.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process holds it for too long.
    pub async fn lock_exclusive(
        &self,
        key: &Key,
        purpose: &str,
        notify: Notify<'_>,
    ) -> Result<ExclusiveLock, StoreError> {
        let waiting = |holder: Option<&LockHolder>| notify(Notice::Waiting { holder });
        let lock = self.lock(key).held_for(purpose);
        lock.exclusive(DEADLINE, &waiting).await
    }

    /// The lock of `key`. There need not be an entry with it.
    pub fn lock(&self, key: &Key) -> LockFile {
        LockFile::new(self.locks().join(key.as_str()))
    }

    /// Removes the entry, unless a process uses or builds it. Returns whether it was removed.
    pub fn remove_unused(&self, key: &Key) -> Result<bool, StoreError> {
        let Some(lock) = self.lock(key).try_exclusive()? else {
            return Ok(false);
        };
        self.remove(key, &lock)?;
        Ok(true)
    }

    /// Whether the entry is complete. A damaged entry is reported and removed.
    pub(crate) fn check_or_remove(
        &self,
        key: &Key,
        notify: Notify<'_>,
        lock: &ExclusiveLock,
    ) -> Result<bool, StoreError> {
        let path = self.entry(key);
        if path.symlink_metadata().is_err() {
            return Ok(false);
        }
        let Err(why) = Manifest::check(&path, key) else {
            return Ok(true);
        };
        notify(Notice::Damaged {
            path: &path,
            why: &why,
        });
        self.remove(key, lock)?;
        Ok(false)
    }

    /// Removes the entry. It is renamed first, so that no process sees a part of it.
    fn remove(&self, key: &Key, _lock: &ExclusiveLock) -> Result<(), StoreError> {
        let trash = temporary::new_name(&self.0, temporary::PREFIX);
        let path = self.entry(key);
        match fs_err::rename(&path, &trash) {
            Ok(()) => (),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let removed = if trash.is_dir() {
            fs_err::remove_dir_all(&trash)
        } else {
            fs_err::remove_file(&trash)
        };
        match removed {
            // Another process may have swept it.
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    pub(crate) fn entry(&self, key: &Key) -> Utf8PathBuf {
        self.0.join(key.as_str())
    }
}

/// The size of all files in a folder, bytes of blocks, since files may be sparse. Files that cannot be
/// read are not counted.
pub fn size_on_disk(path: &Utf8Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(metadata) = path.symlink_metadata() else {
        return 0;
    };
    let below = || path.read_dir_utf8().into_iter().flatten().flatten();
    let inside: u64 = if metadata.is_dir() {
        below().map(|entry| size_on_disk(entry.path())).sum()
    } else {
        0
    };
    metadata.blocks() * 512 + inside
}
