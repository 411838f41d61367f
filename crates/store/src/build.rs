//! Building entries: a folder to fill, and the permit to install it.
//!
//! ```text
//! claim(key) ────────┬─▶ Found(CacheEntry)
//!                    └─▶ Build(BuildPermit) ────┐
//! staging_folder() ───▶ StagingFolder (filled) ─┴─ install ─▶ CacheEntry
//! ```
//!
//! The two may be far apart, in time and in tasks. Other processes that want the entry wait until the
//! folder is installed or the permit dropped.

use crate::bucket::{Bucket, DEADLINE, Notify};
use crate::entry::{CacheEntry, Notice};
use crate::error::StoreError;
use crate::key::Key;
use crate::lock::{ExclusiveLock, LockHolder, WaitLimit};
use crate::manifest::Manifest;
use crate::temporary::{self, LockedFolder};
use camino::{Utf8Path, Utf8PathBuf};
use std::time::Duration;

/// How long the users of a damaged entry are waited for. A process that only checks the entry is
/// done sooner.
const USER_GRACE: Duration = Duration::from_secs(2);

/// The result of a [claim](Bucket::claim).
#[derive(Debug)]
pub enum BuildClaim {
    /// The entry exists.
    Found(CacheEntry),
    /// The entry does not exist, and the caller may build it.
    Build(BuildPermit),
}

/// The right to build an entry. No other process builds or uses it as long as this lives.
#[derive(Debug)]
pub struct BuildPermit {
    bucket: Bucket,
    key: Key,
    lock: ExclusiveLock,
}

/// A temporary folder that becomes an entry when it is installed. Dropping it removes it; after the
/// process was killed, the next sweep does.
#[derive(Debug)]
pub struct StagingFolder(pub(crate) LockedFolder);

impl Bucket {
    /// The entry; if it does not exist or is damaged, `build` fills the folder that it is given. Of
    /// several processes one builds, and the others wait. If `build` fails or is dropped, nothing is
    /// left.
    ///
    /// # Errors
    /// Those of `build`, and of the cache.
    pub async fn get_or_build<E, F>(
        &self,
        key: &Key,
        notify: Notify<'_>,
        build: impl FnOnce(Utf8PathBuf) -> F,
    ) -> Result<CacheEntry, E>
    where
        E: From<StoreError>,
        F: Future<Output = Result<(), E>>,
    {
        match self.claim(key, notify).await? {
            BuildClaim::Found(entry) => Ok(entry),
            BuildClaim::Build(permit) => {
                let folder = self.staging_folder()?;
                build(folder.path().to_owned()).await?;
                Ok(permit.install(folder).await?)
            }
        }
    }

    /// The entry, or the permit to build it. Waits while another process builds it.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when that takes too long, [`StoreError::DamagedInUse`] when the entry is
    /// damaged and another process uses it.
    pub async fn claim(&self, key: &Key, notify: Notify<'_>) -> Result<BuildClaim, StoreError> {
        self.claim_until(key, DEADLINE.into(), notify).await
    }

    /// Like [`Bucket::claim`], for a caller that can do without the entry: it waits for another process as long
    /// as that runs, and for `limit` while it is stopped or not known.
    ///
    /// # Errors
    /// As [`Bucket::claim`].
    pub async fn claim_within(
        &self,
        key: &Key,
        limit: Duration,
        notify: Notify<'_>,
    ) -> Result<BuildClaim, StoreError> {
        self.claim_until(key, WaitLimit::Stalled(limit), notify)
            .await
    }

    async fn claim_until(
        &self,
        key: &Key,
        limit: WaitLimit,
        notify: Notify<'_>,
    ) -> Result<BuildClaim, StoreError> {
        if let Some(entry) = self.get_within(key, limit, notify).await? {
            return Ok(BuildClaim::Found(entry));
        }
        let lock = self.lock_for_build(key, limit, notify).await?;
        if self.check_or_remove(key, notify, &lock)? {
            drop(lock);
            if let Some(entry) = self.get_within(key, limit, notify).await? {
                return Ok(BuildClaim::Found(entry));
            }
            // Between the two locks another process has evicted it.
            let lock = self.exclusive(key, limit, notify).await?;
            self.check_or_remove(key, notify, &lock)?;
            return Ok(BuildClaim::Build(self.permit(key, lock)));
        }
        Ok(BuildClaim::Build(self.permit(key, lock)))
    }

    /// The permit to build an entry without a look-up: an existing entry is replaced.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process builds or uses it for too long.
    pub async fn claim_build(&self, key: &Key) -> Result<BuildPermit, StoreError> {
        let lock = self.exclusive(key, DEADLINE.into(), &|_| ()).await?;
        Ok(self.permit(key, lock))
    }

    /// Locks an entry that is missing or damaged. A process that builds it is waited for; one that uses
    /// a damaged entry is not, since it may do so as long as a machine runs.
    async fn lock_for_build(
        &self,
        key: &Key,
        limit: WaitLimit,
        notify: Notify<'_>,
    ) -> Result<ExclusiveLock, StoreError> {
        let path = self.entry(key);
        if path.symlink_metadata().is_ok() {
            match self.lock(key).exclusive(USER_GRACE, &|_| ()).await {
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

    async fn exclusive(
        &self,
        key: &Key,
        limit: WaitLimit,
        notify: Notify<'_>,
    ) -> Result<ExclusiveLock, StoreError> {
        let waiting = |holder: Option<&LockHolder>| notify(Notice::Waiting { holder });
        self.lock(key).exclusive(limit, &waiting).await
    }

    fn permit(&self, key: &Key, lock: ExclusiveLock) -> BuildPermit {
        BuildPermit {
            bucket: self.clone(),
            key: key.clone(),
            lock,
        }
    }

    /// A folder to fill.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] if it cannot be made.
    pub fn staging_folder(&self) -> Result<StagingFolder, StoreError> {
        let made = temporary::make(self.path(), temporary::PREFIX);
        made.map(StagingFolder)
            .map_err(|source| StoreError::Unusable {
                path: self.path().to_owned(),
                source,
            })
    }
}

impl BuildPermit {
    /// Installs the folder: its files are synced before it gets its name. From then on other processes
    /// may use the entry, and it is not removed as long as the returned one lives.
    ///
    /// # Errors
    /// When it cannot be written; nothing is left then.
    pub async fn install(self, folder: StagingFolder) -> Result<CacheEntry, StoreError> {
        let work = move || {
            let Self { bucket, key, lock } = self;
            let path = bucket.entry(&key);
            let _ = std::fs::remove_dir_all(&path);
            Manifest::of(folder.path(), &key)?.write(folder.path())?;
            sync_all(folder.path())?;
            fs_err::rename(folder.path(), &path)?;
            fs_err::File::open(bucket.path())?.sync_all()?;
            Ok(CacheEntry {
                path,
                _lock: lock.share()?,
            })
        };
        // Syncing can take as long as writing did.
        let installed = tokio::task::spawn_blocking(work).await;
        installed.map_err(|error| StoreError::Io(std::io::Error::other(error)))?
    }
}

impl StagingFolder {
    /// The path of the folder.
    pub fn path(&self) -> &Utf8Path {
        &self.0.path
    }
}

impl Drop for StagingFolder {
    fn drop(&mut self) {
        // An installed folder does not have this name any more.
        let _ = fs_err::remove_dir_all(&self.0.path);
    }
}

fn sync_all(folder: &Utf8Path) -> Result<(), StoreError> {
    for entry in folder.read_dir_utf8()? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync_all(entry.path())?;
        } else if kind.is_file() {
            fs_err::File::open(entry.path())?.sync_all()?;
        }
    }
    fs_err::File::open(folder)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::LOCKS;
    use crate::cache::Cache;
    use crate::key::KeyBuilder;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::SystemTime;

    fn bucket() -> (tempfile::TempDir, Bucket) {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().join("cache")).unwrap();
        let bucket = Cache::open(path).unwrap().bucket("things", 1).unwrap();
        (folder, bucket)
    }

    fn key() -> Key {
        KeyBuilder::new("t").finish()
    }

    async fn make(
        bucket: &Bucket,
        content: &str,
        notify: Notify<'_>,
    ) -> Result<CacheEntry, StoreError> {
        let fill = |path: Utf8PathBuf| async move {
            fs_err::write(path.join("content"), content)?;
            Ok(())
        };
        bucket.get_or_build(&key(), notify, fill).await
    }

    fn names(bucket: &Bucket) -> Vec<String> {
        let entries = bucket.path().read_dir_utf8().unwrap().flatten();
        entries
            .map(|entry| entry.file_name().to_owned())
            .filter(|name| name != LOCKS)
            .collect()
    }

    #[tokio::test]
    async fn an_entry_is_built_once_and_found_afterwards() {
        let (_folder, bucket) = bucket();
        assert!(bucket.get(&key(), &|_| ()).await.unwrap().is_none());
        let first = make(&bucket, "one", &|_| ()).await.unwrap();
        let second = make(&bucket, "two", &|_| ()).await.unwrap();
        assert_eq!(first.path(), second.path());
        assert_eq!(
            fs_err::read_to_string(first.file("content")).unwrap(),
            "one"
        );
        assert_eq!(names(&bucket), [key().as_str()]);
    }

    #[tokio::test]
    async fn a_damaged_entry_is_reported_and_rebuilt() {
        let (_folder, bucket) = bucket();
        let path = make(&bucket, "one", &|_| ())
            .await
            .unwrap()
            .path()
            .to_owned();
        let other_key = r#"{"version":2,"key":"KEY","files":{}}"#.replace("KEY", &"a".repeat(64));
        let damages: [(&str, &str, &str); 7] = [
            ("content", "on", "`content` has 2 bytes instead of 3"),
            ("content", "eno", "`content` has changed"),
            ("stranger", "x", "`stranger` does not belong to it"),
            ("manifest.json", "{\"vers", "its manifest is not readable"),
            (
                "manifest.json",
                r#"{"version":99}"#,
                "its manifest has version 99",
            ),
            (
                "manifest.json",
                &other_key,
                "it is the entry of another key",
            ),
            ("manifest.json", "", "its manifest is not readable"),
        ];
        for (file, content, why) in damages {
            fs_err::write(path.join(file), content).unwrap();
            assert!(
                bucket.get(&key(), &|_| ()).await.unwrap().is_none(),
                "{why}"
            );
            let damages = Mutex::new(Vec::new());
            let notify = |notice: Notice<'_>| match notice {
                Notice::Damaged { why, .. } => damages.lock().unwrap().push(why.to_owned()),
                Notice::Waiting { .. } => panic!("no other process to wait for"),
            };
            let entry = make(&bucket, "one", &notify).await.unwrap();
            assert_eq!(
                fs_err::read_to_string(entry.file("content")).unwrap(),
                "one"
            );
            let damages = damages.into_inner().unwrap();
            assert!(
                damages.len() == 1 && damages[0].starts_with(why),
                "{why}: {damages:?}"
            );
            assert_eq!(names(&bucket), [key().as_str()]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_damaged_entry_in_use_is_not_waited_for() {
        let (_folder, bucket) = bucket();
        let used = make(&bucket, "one", &|_| ()).await.unwrap();
        fs_err::write(used.file("content"), "eno").unwrap();
        let refused = make(&bucket, "two", &|_| ()).await.unwrap_err();
        let StoreError::DamagedInUse { path, why } = &refused else {
            panic!("{refused}")
        };
        assert_eq!(
            (path.as_path(), why.as_str()),
            (used.path(), "`content` has changed")
        );
        drop(used);
        let entry = make(&bucket, "two", &|_| ()).await.unwrap();
        assert_eq!(
            fs_err::read_to_string(entry.file("content")).unwrap(),
            "two"
        );
    }

    #[tokio::test]
    async fn a_file_in_place_of_an_entry_is_replaced() {
        let (_folder, bucket) = bucket();
        fs_err::write(bucket.path().join(key().as_str()), "a file").unwrap();
        make(&bucket, "one", &|_| ()).await.unwrap();
    }

    #[tokio::test]
    async fn a_failed_or_dropped_build_leaves_nothing() {
        let (_folder, bucket) = bucket();
        let fail = |path: Utf8PathBuf| async move {
            fs_err::write(path.join("half"), "x")?;
            Err::<(), StoreError>(std::io::Error::other("no").into())
        };
        assert!(bucket.get_or_build(&key(), &|_| (), fail).await.is_err());
        assert!(names(&bucket).is_empty());

        let hang = |path: Utf8PathBuf| async move {
            fs_err::write(path.join("half"), "x")?;
            std::future::pending::<Result<(), StoreError>>().await
        };
        let key = key();
        let mut started = Box::pin(bucket.get_or_build(&key, &|_| (), hang));
        // Every step before the hang is ready at once.
        assert!(is_pending_once_polled(started.as_mut()).await);
        drop(started);
        assert!(names(&bucket).is_empty());
        make(&bucket, "one", &|_| ()).await.unwrap();
    }

    /// Polls once; whether it is pending.
    async fn is_pending_once_polled<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(future.as_mut().poll(context).is_pending())
        })
        .await
    }

    #[tokio::test]
    async fn one_of_several_callers_builds() {
        let (_folder, bucket) = bucket();
        let (built, waited) = (AtomicU32::new(0), AtomicU32::new(0));
        let once = async || {
            let notify = |notice: Notice<'_>| {
                let Notice::Waiting { holder } = notice else {
                    panic!("nothing is damaged")
                };
                assert_eq!(holder.unwrap().pid, std::process::id());
                waited.fetch_add(1, Ordering::Relaxed);
            };
            let fill = async |path: Utf8PathBuf| {
                built.fetch_add(1, Ordering::Relaxed);
                while waited.load(Ordering::Relaxed) < 2 {
                    tokio::task::yield_now().await;
                }
                fs_err::write(path.join("content"), "x")?;
                Ok::<_, StoreError>(())
            };
            bucket.get_or_build(&key(), &notify, fill).await
        };
        let (a, b, c) = tokio::join!(once(), once(), once());
        assert!(a.is_ok() && b.is_ok() && c.is_ok());
        assert_eq!(built.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn an_entry_in_use_is_not_removed() {
        let (_folder, bucket) = bucket();
        let entry = make(&bucket, "one", &|_| ()).await.unwrap();
        let found = bucket.entries().unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].size > 0 && found[0].used > SystemTime::UNIX_EPOCH);
        assert!(!bucket.remove_unused(&key()).unwrap());
        assert!(entry.file("content").exists());
        drop(entry);
        assert!(bucket.remove_unused(&key()).unwrap());
        assert!(names(&bucket).is_empty());
        assert!(bucket.remove_unused(&key()).unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_builder_is_waited_for_up_to_the_limit() {
        let (_folder, bucket) = bucket();
        let permit = match bucket.claim(&key(), &|_| ()).await.unwrap() {
            BuildClaim::Build(permit) => permit,
            BuildClaim::Found(_) => panic!("there is nothing to find"),
        };
        let limit = Duration::from_secs(5);
        let key = key();
        let running = bucket.claim_within(&key, limit, &|_| ());
        let running = tokio::time::timeout(limit * 10, running).await;
        assert!(running.is_err(), "a builder that runs is waited for");
        // As if the builder were a process that cannot be seen.
        fs_err::write(bucket.lock(&key).path(), "4194305 1 ").unwrap();
        let began = tokio::time::Instant::now();
        let other = bucket.claim_within(&key, limit, &|_| ()).await;
        assert!(matches!(other, Err(StoreError::Locked { .. })), "{other:?}");
        let took = began.elapsed();
        assert!(took >= limit && took < limit * 2, "{took:?}");
        drop(permit);
        let other = bucket.claim_within(&key, limit, &|_| ()).await;
        assert!(matches!(other, Ok(BuildClaim::Build(_))));
    }
}
