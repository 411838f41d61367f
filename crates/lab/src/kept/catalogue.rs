//! The kept failures in the cache.

use crate::kept::manifest::{KeptManifest, KeptVm};
use provium_store::{Bucket, Key, StoreError};
use std::io;
use std::time::{Duration, SystemTime};

/// How many failures are kept; the oldest ones are removed.
const MOST: usize = 10;

/// How long a failure is kept.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// The kept failures in a bucket of the cache.
#[derive(Debug, Clone)]
pub struct KeptFailures(Bucket);

/// A failed test whose VMs are kept.
#[derive(Debug, Clone)]
pub struct KeptFailure {
    /// Its entry; the first digits identify it for the user.
    pub key: Key,
    /// The test's file, as reports name it.
    pub file: String,
    /// The test's name.
    pub test: String,
    /// Why the test failed.
    pub reason: String,
    /// When it was kept.
    pub kept: SystemTime,
    /// What it takes on the disk, bytes.
    pub size: u64,
    /// The test's VMs.
    pub vms: Vec<KeptVm>,
}

impl KeptFailures {
    /// Those of a bucket.
    pub fn new(bucket: Bucket) -> Self {
        Self(bucket)
    }

    pub(crate) fn bucket(&self) -> &Bucket {
        &self.0
    }

    /// All of them, the newest first.
    ///
    /// # Errors
    /// When the cache cannot be read.
    pub fn list(&self) -> Result<Vec<KeptFailure>, StoreError> {
        let mut list = Vec::new();
        for entry in self.0.entries()? {
            let folder = self.0.path().join(entry.key.as_str());
            let Some(manifest) = KeptManifest::read(&folder) else {
                continue;
            };
            let since = u64::try_from(manifest.kept_ns).unwrap_or(0);
            list.push(KeptFailure {
                key: entry.key,
                file: manifest.file,
                test: manifest.test,
                reason: manifest.reason,
                kept: SystemTime::UNIX_EPOCH + Duration::from_nanos(since),
                size: entry.size,
                vms: manifest.vms,
            });
        }
        list.sort_by(|a, b| (b.kept, &b.key).cmp(&(a.kept, &a.key)));
        Ok(list)
    }

    /// Removes those that are too many or too old, and entries that cannot be read. One that is in use
    /// stays.
    ///
    /// # Errors
    /// When the cache cannot be read, or an entry cannot be removed.
    pub fn prune(&self) -> Result<(), StoreError> {
        let list = self.list()?;
        let stays = |(index, failure): &(usize, KeptFailure)| {
            let age = failure.kept.elapsed().unwrap_or_default();
            *index < MOST && age < LONGEST
        };
        let staying = list.into_iter().enumerate().filter(stays);
        let staying: Vec<Key> = staying.map(|(_, failure)| failure.key).collect();
        for entry in self.0.entries()? {
            if !staying.contains(&entry.key) {
                self.0.remove_unused(&entry.key)?;
            }
        }
        Ok(())
    }

    /// Removes a failure unless it is in use. Returns whether it did.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, key: &Key) -> Result<bool, StoreError> {
        self.0.remove_unused(key)
    }

    /// The console of a VM of which nothing else is kept.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn console(&self, failure: &KeptFailure, vm: &KeptVm) -> io::Result<Vec<u8>> {
        fs_err::read(self.0.path().join(failure.key.as_str()).join(&vm.part))
    }
}
