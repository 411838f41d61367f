//! Entries that are made over time: a folder to fill, the right to put it in place.
//!
//! ```text
//! claim(key) ─┬─▶ Found(Entry)
//!             └─▶ Make(Making) ──┐
//! draft() ─────▶ Draft (filled) ─┴─ install ─▶ Entry
//! ```
//!
//! Both ends may be far apart, in time and in tasks: whoever claims the key keeps everybody else
//! waiting until the draft is installed or the claim dropped.

use crate::bucket::{Bucket, DEADLINE, Notify, sync_all};
use crate::entry::Entry;
use crate::error::StoreError;
use crate::key::Key;
use crate::lock::{Exclusive, WaitLimit};
use crate::manifest::Manifest;
use crate::sweep::{self, HeldFolder};
use camino::Utf8Path;
use std::time::Duration;

/// How long the users of a damaged entry are waited for: those that only look at it are gone sooner.
const USERS: Duration = Duration::from_secs(2);

/// What a [claim](Bucket::claim) comes to.
#[derive(Debug)]
pub enum Claim {
    /// The entry is there.
    Found(Entry),
    /// It is not, and is the caller's to make.
    Make(Making),
}

/// The right to make an entry: nobody else makes or uses it as long as this lives.
#[derive(Debug)]
pub struct Making {
    pub(crate) bucket: Bucket,
    pub(crate) key: Key,
    pub(crate) alone: Exclusive,
}

/// A folder of a bucket that is not an entry. It goes with this, and is swept if the process is
/// killed.
#[derive(Debug)]
pub struct Draft(pub(crate) HeldFolder);

impl Bucket {
    /// The entry, or the right to make it. Waits while somebody else makes it.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when it is being made for too long, [`StoreError::DamagedInUse`] when it
    /// cannot be made because somebody uses what is there.
    pub async fn claim(&self, key: &Key, notify: Notify<'_>) -> Result<Claim, StoreError> {
        self.claim_until(key, DEADLINE.into(), notify).await
    }

    /// Like [`Bucket::claim`] for a caller that can do without the entry: a process that makes it is waited for as
    /// long as it runs, and for `limit` while it is stopped or not known.
    ///
    /// # Errors
    /// As [`Bucket::claim`].
    pub async fn claim_within(
        &self,
        key: &Key,
        limit: Duration,
        notify: Notify<'_>,
    ) -> Result<Claim, StoreError> {
        self.claim_until(key, WaitLimit::Stalled(limit), notify)
            .await
    }

    async fn claim_until(
        &self,
        key: &Key,
        limit: WaitLimit,
        notify: Notify<'_>,
    ) -> Result<Claim, StoreError> {
        if let Some(entry) = self.get_within(key, limit, notify).await? {
            return Ok(Claim::Found(entry));
        }
        let alone = self.alone_to_make(key, limit, notify).await?;
        if self.is_whole_or_removed(key, notify, &alone)? {
            drop(alone);
            if let Some(entry) = self.get_within(key, limit, notify).await? {
                return Ok(Claim::Found(entry));
            }
            // Between the two locks somebody has made room.
            let alone = self.exclusive(key, limit, notify).await?;
            self.is_whole_or_removed(key, notify, &alone)?;
            return Ok(Claim::Make(self.making(key, alone)));
        }
        Ok(Claim::Make(self.making(key, alone)))
    }

    /// The right to make an entry of which there can be none yet, or none that is of use: what is
    /// there goes.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when it is being made or used for too long.
    pub async fn make(&self, key: &Key) -> Result<Making, StoreError> {
        let alone = self.exclusive(key, DEADLINE.into(), &|_| ()).await?;
        Ok(self.making(key, alone))
    }

    /// The lock of an entry that was not found whole. Whoever makes it is waited for, and who uses a
    /// damaged one is not: that may take as long as a machine runs.
    async fn alone_to_make(
        &self,
        key: &Key,
        limit: WaitLimit,
        notify: Notify<'_>,
    ) -> Result<Exclusive, StoreError> {
        let path = self.entry(key);
        if path.symlink_metadata().is_ok() {
            match self.lock(key).exclusive(USERS, &|_| ()).await {
                Err(StoreError::Locked { pid: None, .. }) => {
                    if let Err(why) = Manifest::check(&path, key) {
                        return Err(StoreError::DamagedInUse { path, why });
                    }
                }
                Err(StoreError::Locked { .. }) => (),
                locked => return locked,
            }
        }
        self.exclusive(key, limit, notify).await
    }

    fn making(&self, key: &Key, alone: Exclusive) -> Making {
        Making {
            bucket: self.clone(),
            key: key.clone(),
            alone,
        }
    }

    /// A folder to fill.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] if it cannot be made.
    pub fn draft(&self) -> Result<Draft, StoreError> {
        let made = sweep::make(self.path(), sweep::PREFIX);
        made.map(Draft).map_err(|source| StoreError::Unusable {
            path: self.path().to_owned(),
            source,
        })
    }
}

impl Making {
    /// Puts the draft in place: durable before it is visible. From then on others may use it, and it
    /// stays as long as the entry that is given.
    ///
    /// # Errors
    /// When it cannot be written; nothing is left then.
    pub async fn install(self, draft: Draft) -> Result<Entry, StoreError> {
        let work = move || {
            let Self { bucket, key, alone } = self;
            let path = bucket.entry(&key);
            let _ = std::fs::remove_dir_all(&path);
            Manifest::of(draft.path(), &key)?.write(draft.path())?;
            sync_all(draft.path())?;
            fs_err::rename(draft.path(), &path)?;
            fs_err::File::open(bucket.path())?.sync_all()?;
            Ok(Entry {
                path,
                _held: alone.share()?,
            })
        };
        // Syncing can take as long as writing did.
        let installed = tokio::task::spawn_blocking(work).await;
        installed.map_err(|error| StoreError::Io(std::io::Error::other(error)))?
    }
}

impl Draft {
    /// The folder.
    pub fn path(&self) -> &Utf8Path {
        &self.0.path
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Not there any more when it was installed.
        let _ = fs_err::remove_dir_all(&self.0.path);
    }
}
