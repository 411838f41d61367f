//! Buckets: entries of one kind, looked up or made.

use crate::entry::{Entry, EntryInfo, Notice};
use crate::error::StoreError;
use crate::key::Key;
use crate::lock::{Exclusive, Holder, LockFile, WaitLimit};
use crate::making::Claim;
use crate::manifest::Manifest;
use crate::sweep;
use camino::{Utf8Path, Utf8PathBuf};
use std::time::{Duration, SystemTime};

/// Locks of a bucket are in this folder of it.
const LOCKS: &str = "LOCKS";

/// How long somebody else may make an entry before the wait is given up.
pub(crate) const DEADLINE: Duration = Duration::from_secs(1800);

/// Entries of one kind, in one version of their layout.
#[derive(Debug, Clone)]
pub struct Bucket(Utf8PathBuf);

/// Who is told of waits and damage.
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

    /// The entry, if it is there and whole. Waits while somebody is making it.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when it is being made for too long.
    pub async fn get(&self, key: &Key, notify: Notify<'_>) -> Result<Option<Entry>, StoreError> {
        self.get_within(key, DEADLINE.into(), notify).await
    }

    pub(crate) async fn get_within(
        &self,
        key: &Key,
        limit: WaitLimit,
        notify: Notify<'_>,
    ) -> Result<Option<Entry>, StoreError> {
        let waiting = |holder: Option<&Holder>| notify(Notice::Waiting { holder });
        let held = self.lock(key).shared(limit, &waiting).await?;
        let path = self.entry(key);
        Ok(Manifest::check(&path, key)
            .is_ok()
            .then_some(Entry { path, _held: held }))
    }

    /// The entry; if there is none that is whole, `make` fills the folder that it is given. Of
    /// several processes one makes it, and the others wait. If `make` fails or is dropped, nothing
    /// is left.
    ///
    /// # Errors
    /// Those of `make`, and of the cache.
    pub async fn get_or_make<E, F>(
        &self,
        key: &Key,
        notify: Notify<'_>,
        make: impl FnOnce(Utf8PathBuf) -> F,
    ) -> Result<Entry, E>
    where
        E: From<StoreError>,
        F: Future<Output = Result<(), E>>,
    {
        match self.claim(key, notify).await? {
            Claim::Found(entry) => Ok(entry),
            Claim::Make(making) => {
                let draft = self.draft()?;
                make(draft.path().to_owned()).await?;
                Ok(making.install(draft).await?)
            }
        }
    }

    /// The entries there are, whole or not, in the order of their keys.
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

    /// Waits until nobody else holds `key`, and holds it alone, which keeps others that ask for it
    /// waiting; they are told that it is held for `purpose`. The key may be one that no entry has.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when it is held by somebody else for too long.
    pub async fn alone(
        &self,
        key: &Key,
        purpose: &str,
        notify: Notify<'_>,
    ) -> Result<Exclusive, StoreError> {
        let waiting = |holder: Option<&Holder>| notify(Notice::Waiting { holder });
        let lock = self.lock(key).held_for(purpose);
        lock.exclusive(DEADLINE, &waiting).await
    }

    /// The lock of `key`, which may be one that no entry has.
    pub fn lock_of(&self, key: &Key) -> LockFile {
        self.lock(key)
    }

    /// Removes the entry unless somebody uses or makes it; whether it did.
    pub fn remove_unused(&self, key: &Key) -> Result<bool, StoreError> {
        let Some(alone) = self.lock(key).try_exclusive()? else {
            return Ok(false);
        };
        self.remove(key, &alone)?;
        Ok(true)
    }

    pub(crate) fn is_whole_or_removed(
        &self,
        key: &Key,
        notify: Notify<'_>,
        alone: &Exclusive,
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
        self.remove(key, alone)?;
        Ok(false)
    }

    /// Removal starts with a rename, so that nobody ever sees half an entry.
    fn remove(&self, key: &Key, _alone: &Exclusive) -> Result<(), StoreError> {
        let trash = sweep::new_name(&self.0, sweep::PREFIX);
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
            // The sweep of another process may have done it.
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    pub(crate) fn entry(&self, key: &Key) -> Utf8PathBuf {
        self.0.join(key.as_str())
    }

    pub(crate) async fn exclusive(
        &self,
        key: &Key,
        limit: WaitLimit,
        notify: Notify<'_>,
    ) -> Result<Exclusive, StoreError> {
        let waiting = |holder: Option<&Holder>| notify(Notice::Waiting { holder });
        self.lock(key).exclusive(limit, &waiting).await
    }

    pub(crate) fn lock(&self, key: &Key) -> LockFile {
        LockFile::new(self.locks().join(key.as_str()))
    }
}

pub(crate) fn sync_all(folder: &Utf8Path) -> Result<(), StoreError> {
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

/// What is there, as far as it can be read: bytes of blocks, since files may be sparse.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Cache;
    use crate::key::KeyBuilder;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn bucket() -> (tempfile::TempDir, Bucket) {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().join("cache")).unwrap();
        let bucket = Cache::open(path).unwrap().bucket("things", 1).unwrap();
        (folder, bucket)
    }

    fn key() -> Key {
        KeyBuilder::new("t").finish()
    }

    async fn make(bucket: &Bucket, content: &str, notify: Notify<'_>) -> Result<Entry, StoreError> {
        let fill = |path: Utf8PathBuf| async move {
            fs_err::write(path.join("content"), content)?;
            Ok(())
        };
        bucket.get_or_make(&key(), notify, fill).await
    }

    fn names(bucket: &Bucket) -> Vec<String> {
        let entries = bucket.path().read_dir_utf8().unwrap().flatten();
        entries
            .map(|entry| entry.file_name().to_owned())
            .filter(|name| name != LOCKS)
            .collect()
    }

    #[tokio::test]
    async fn made_once_then_found() {
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
    async fn a_damaged_entry_is_told_of_and_made_again() {
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
            let told = Mutex::new(Vec::new());
            let notify = |notice: Notice<'_>| match notice {
                Notice::Damaged { why, .. } => told.lock().unwrap().push(why.to_owned()),
                Notice::Waiting { .. } => panic!("nobody to wait for"),
            };
            let entry = make(&bucket, "one", &notify).await.unwrap();
            assert_eq!(
                fs_err::read_to_string(entry.file("content")).unwrap(),
                "one"
            );
            let told = told.into_inner().unwrap();
            assert!(
                told.len() == 1 && told[0].starts_with(why),
                "{why}: {told:?}"
            );
            assert_eq!(names(&bucket), [key().as_str()]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_damaged_entry_that_is_in_use_is_not_waited_for() {
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
    async fn something_that_is_no_entry_is_replaced() {
        let (_folder, bucket) = bucket();
        fs_err::write(bucket.path().join(key().as_str()), "a file").unwrap();
        make(&bucket, "one", &|_| ()).await.unwrap();
    }

    #[tokio::test]
    async fn a_failed_or_dropped_making_leaves_nothing() {
        let (_folder, bucket) = bucket();
        let fail = |path: Utf8PathBuf| async move {
            fs_err::write(path.join("half"), "x")?;
            Err::<(), StoreError>(std::io::Error::other("no").into())
        };
        assert!(bucket.get_or_make(&key(), &|_| (), fail).await.is_err());
        assert!(names(&bucket).is_empty());

        let hang = |path: Utf8PathBuf| async move {
            fs_err::write(path.join("half"), "x")?;
            std::future::pending::<Result<(), StoreError>>().await
        };
        let key = key();
        let mut started = Box::pin(bucket.get_or_make(&key, &|_| (), hang));
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
    async fn of_many_one_makes() {
        let (_folder, bucket) = bucket();
        let (made, waited) = (AtomicU32::new(0), AtomicU32::new(0));
        let once = async || {
            let notify = |notice: Notice<'_>| {
                let Notice::Waiting { holder } = notice else {
                    panic!("nothing is damaged")
                };
                assert_eq!(holder.unwrap().pid, std::process::id());
                waited.fetch_add(1, Ordering::Relaxed);
            };
            let fill = async |path: Utf8PathBuf| {
                made.fetch_add(1, Ordering::Relaxed);
                while waited.load(Ordering::Relaxed) < 2 {
                    tokio::task::yield_now().await;
                }
                fs_err::write(path.join("content"), "x")?;
                Ok::<_, StoreError>(())
            };
            bucket.get_or_make(&key(), &notify, fill).await
        };
        let (a, b, c) = tokio::join!(once(), once(), once());
        assert!(a.is_ok() && b.is_ok() && c.is_ok());
        assert_eq!(made.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn what_is_in_use_stays() {
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
        let making = match bucket.claim(&key(), &|_| ()).await.unwrap() {
            Claim::Make(making) => making,
            Claim::Found(_) => panic!("it is not there"),
        };
        let limit = Duration::from_secs(5);
        let key = key();
        let running = bucket.claim_within(&key, limit, &|_| ());
        let running = tokio::time::timeout(limit * 10, running).await;
        assert!(running.is_err(), "a builder that runs is waited for");
        // As of a process that is not to be seen here.
        fs_err::write(bucket.lock(&key).path(), "4194305 1 ").unwrap();
        let began = tokio::time::Instant::now();
        let other = bucket.claim_within(&key, limit, &|_| ()).await;
        assert!(matches!(other, Err(StoreError::Locked { .. })), "{other:?}");
        let took = began.elapsed();
        assert!(took >= limit && took < limit * 2, "{took:?}");
        drop(making);
        let other = bucket.claim_within(&key, limit, &|_| ()).await;
        assert!(matches!(other, Ok(Claim::Make(_))));
    }
}
