//! File locks between processes (`flock(2)`), their state in the type.
//!
//! A process that holds a lock exclusively writes its id and its purpose into the file, so that those
//! that wait can name it. The kernel releases a lock when its holder ends, however it ends. Lock files
//! are never removed: two processes could then hold two files of one name. A link in place of a lock
//! file is refused, since a write to it would reach a file elsewhere.

use crate::error::StoreError;
use crate::private::check_owner;
use crate::temporary::{is_stopped, start_time};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err::os::unix::fs::OpenOptionsExt as _;
use fs_err::{File, OpenOptions};
use rustix::fs::{
    FlockOperation, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, flock, futimens,
};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;
use tokio::time::Instant;

/// Interval of attempts to take a lock: `flock` cannot be awaited.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// Number of attempts after which a wait is reported although its holder is not known.
const ATTEMPTS_WITHOUT_HOLDER: u32 = 10;

/// Maximum number of bytes that are read of a lock file.
const MAX_HOLDER_BYTES: u64 = 4096;

/// Links are not followed, and a pipe does not block.
#[expect(
    clippy::cast_possible_wrap,
    reason = "the kernel's flags are the low bits of an int"
)]
const PLAIN_ONLY: i32 = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).bits() as i32;

/// A lock file that is not locked.
#[derive(Debug, Clone)]
pub struct LockFile {
    path: Utf8PathBuf,
    purpose: String,
}

/// The process that holds a lock exclusively.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockHolder {
    /// Its process id.
    pub pid: u32,
    /// What it holds the lock for; may be empty.
    pub purpose: String,
}

/// When a wait for a lock ends without it.
#[derive(Debug, Clone, Copy)]
pub enum WaitLimit {
    /// After this time.
    Total(Duration),
    /// When the lock has been held for this time without a break by a process that is stopped or not
    /// known. A holder that runs is waited for as long as it takes.
    Stalled(Duration),
}

impl From<Duration> for WaitLimit {
    fn from(limit: Duration) -> Self {
        Self::Total(limit)
    }
}

impl WaitLimit {
    fn time(self) -> Duration {
        match self {
            Self::Total(time) | Self::Stalled(time) => time,
        }
    }
}

/// A shared lock: other processes may hold it as well.
#[derive(Debug)]
pub struct SharedLock(#[expect(dead_code, reason = "closing it gives the lock back")] File);

/// An exclusive lock.
#[derive(Debug)]
pub struct ExclusiveLock(File);

impl LockFile {
    /// The lock at that path. The file is created when it is first locked.
    pub fn new(path: impl Into<Utf8PathBuf>) -> Self {
        Self {
            path: path.into(),
            purpose: String::new(),
        }
    }

    /// The same lock with a purpose, a line of text that is shown to those that wait for it.
    #[must_use]
    pub fn held_for(self, purpose: &str) -> Self {
        let purpose = purpose.replace('\n', " ");
        Self { purpose, ..self }
    }

    /// The path.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// Locks it shared, unless another process holds it exclusively.
    pub fn try_shared(&self) -> Result<Option<SharedLock>, StoreError> {
        let taken = self.try_lock(FlockOperation::NonBlockingLockShared)?;
        if let Some(file) = &taken {
            mark_used(file)?;
        }
        Ok(taken.map(SharedLock))
    }

    /// Locks it exclusively, unless another process holds it.
    pub fn try_exclusive(&self) -> Result<Option<ExclusiveLock>, StoreError> {
        let Some(mut file) = self.try_lock(FlockOperation::NonBlockingLockExclusive)? else {
            return Ok(None);
        };
        let pid = std::process::id();
        file.set_len(0)?;
        file.rewind()?;
        let start = start_time(pid).unwrap_or(0);
        write!(file, "{pid} {start} {}", self.purpose)?;
        Ok(Some(ExclusiveLock(file)))
    }

    /// Locks it shared; waits for a process that holds it exclusively.
    ///
    /// # Errors
    /// [`StoreError::Locked`] at the limit.
    pub async fn shared(
        &self,
        limit: impl Into<WaitLimit>,
        waiting: &(dyn Fn(Option<&LockHolder>) + Send + Sync),
    ) -> Result<SharedLock, StoreError> {
        self.wait(limit.into(), waiting, || self.try_shared()).await
    }

    /// Locks it exclusively; waits for the processes that hold it. `waiting` is called once, with the
    /// holder, if there is a wait.
    ///
    /// # Errors
    /// [`StoreError::Locked`] at the limit.
    pub async fn exclusive(
        &self,
        limit: impl Into<WaitLimit>,
        waiting: &(dyn Fn(Option<&LockHolder>) + Send + Sync),
    ) -> Result<ExclusiveLock, StoreError> {
        self.wait(limit.into(), waiting, || self.try_exclusive())
            .await
    }

    async fn wait<T>(
        &self,
        limit: WaitLimit,
        waiting: &(dyn Fn(Option<&LockHolder>) + Send + Sync),
        attempt: impl Fn() -> Result<Option<T>, StoreError>,
    ) -> Result<T, StoreError> {
        let (mut reported, mut attempts) = (false, 0);
        let mut since = Instant::now();
        loop {
            if let Some(lock) = attempt()? {
                return Ok(lock);
            }
            attempts += 1;
            let holder = self.holder();
            // A process that has just locked it has not written its name yet.
            if !reported && (holder.is_some() || attempts > ATTEMPTS_WITHOUT_HOLDER) {
                reported = true;
                waiting(holder.as_ref());
            }
            let runs = |holder: &LockHolder| !is_stopped(holder.pid);
            if matches!(limit, WaitLimit::Stalled(_)) && holder.as_ref().is_some_and(runs) {
                since = Instant::now();
            }
            if since.elapsed() >= limit.time() {
                return Err(StoreError::Locked {
                    path: self.path.clone(),
                    pid: holder.map(|holder| holder.pid),
                    deadline: limit.time(),
                });
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }

    /// The process that holds it exclusively, if it is alive.
    pub fn holder(&self) -> Option<LockHolder> {
        let mut text = String::new();
        let mut open = OpenOptions::new();
        open.read(true).custom_flags(PLAIN_ONLY);
        open.open(&self.path)
            .ok()?
            .take(MAX_HOLDER_BYTES)
            .read_to_string(&mut text)
            .ok()?;
        let (pid, rest) = text.split_once(' ')?;
        let (start, purpose) = rest.split_once(' ')?;
        let pid = pid.parse().ok()?;
        let is_alive = start_time(pid)? == start.parse::<u64>().ok()?;
        is_alive.then(|| LockHolder {
            pid,
            purpose: purpose.to_owned(),
        })
    }

    fn try_lock(&self, operation: FlockOperation) -> Result<Option<File>, StoreError> {
        let file = self.open()?;
        match flock(&file, operation) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(StoreError::Io(error.into())),
        }
    }
}

impl LockFile {
    fn open(&self) -> Result<File, StoreError> {
        let not_a_lock = |why| StoreError::NotALock {
            path: self.path.clone(),
            why,
        };
        let mut open = OpenOptions::new();
        open.read(true).write(true).create(true).truncate(false);
        open.mode(0o600).custom_flags(PLAIN_ONLY);
        let file = match open.open(&self.path) {
            Ok(file) => file,
            Err(error) => {
                let metadata = self.path.symlink_metadata();
                if metadata.is_ok_and(|metadata| !metadata.is_file()) {
                    return Err(not_a_lock("it is a link, a folder or a special file"));
                }
                if error.kind() == io::ErrorKind::PermissionDenied {
                    check_owner(&self.path)?;
                }
                return Err(error.into());
            }
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(not_a_lock("it is a special file"));
        }
        if metadata.nlink() > 1 {
            return Err(not_a_lock("the file has another name elsewhere"));
        }
        Ok(file)
    }
}

impl ExclusiveLock {
    /// Makes it a shared lock, without releasing it meanwhile.
    pub(crate) fn share(self) -> Result<SharedLock, StoreError> {
        let file = File::from_parts(self.0.file().try_clone()?, self.0.path());
        // For one open file, `flock` changes the kind of the lock that is held.
        flock(&file, FlockOperation::LockShared).map_err(|error| StoreError::Io(error.into()))?;
        mark_used(&file)?;
        Ok(SharedLock(file))
    }
}

impl Drop for ExclusiveLock {
    fn drop(&mut self) {
        // If the holder cannot be erased, those that wait see that it is stale.
        let _ = self.0.set_len(0);
    }
}

fn mark_used(file: &File) -> Result<(), StoreError> {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_NOW,
    };
    let omit = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_OMIT,
    };
    futimens(
        file,
        &Timestamps {
            last_access: omit,
            last_modification: now,
        },
    )
    .map_err(|error| StoreError::Io(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    fn lock() -> (tempfile::TempDir, LockFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().join("lock")).unwrap();
        (folder, LockFile::new(path))
    }

    #[tokio::test]
    async fn a_lock_is_exclusive_or_shared() {
        let (_folder, lock) = lock();
        let alone = lock.clone().held_for("a\ntest").try_exclusive();
        let alone = alone.unwrap().unwrap();
        assert!(lock.try_shared().unwrap().is_none());
        let me = LockHolder {
            pid: std::process::id(),
            purpose: "a test".to_owned(),
        };
        assert_eq!(lock.holder(), Some(me.clone()));

        let holders = Mutex::new(Vec::new());
        let waiting = |holder: Option<&LockHolder>| holders.lock().unwrap().push(holder.cloned());
        let late = lock.exclusive(Duration::from_millis(50), &waiting).await;
        let Err(StoreError::Locked { pid, .. }) = late else {
            panic!("not refused")
        };
        assert_eq!(pid, Some(std::process::id()));
        assert_eq!(*holders.lock().unwrap(), [Some(me)]);

        drop(alone);
        assert_eq!(lock.holder(), None);
        let first = lock.try_shared().unwrap().unwrap();
        let second = lock.try_shared().unwrap().unwrap();
        assert!(lock.try_exclusive().unwrap().is_none());
        drop((first, second));
        assert!(lock.try_exclusive().unwrap().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_running_holder_is_waited_for_longer_than_a_stalled_one() {
        const LIMIT: WaitLimit = WaitLimit::Stalled(Duration::from_secs(1));
        let (_folder, lock) = lock();
        let alone = lock.try_exclusive().unwrap().unwrap();
        let ten_limits = tokio::time::timeout(LIMIT.time() * 10, lock.exclusive(LIMIT, &|_| ()));
        assert!(ten_limits.await.is_err(), "this process runs");
        let shared = tokio::time::timeout(LIMIT.time() * 10, lock.shared(LIMIT, &|_| ()));
        assert!(shared.await.is_err(), "this process runs");

        // A holder that is not known, as one in another PID namespace.
        fs_err::write(lock.path(), "4194305 1 ").unwrap();
        let began = Instant::now();
        let late = lock.exclusive(LIMIT, &|_| ()).await;
        assert!(matches!(late, Err(StoreError::Locked { pid: None, .. })));
        let waited = began.elapsed();
        assert!(waited >= LIMIT.time() && waited < LIMIT.time() * 2);
        drop(alone);
        lock.exclusive(LIMIT, &|_| ()).await.unwrap();
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "the test needs a process that it may stop"
    )]
    fn a_stopped_process_is_seen() {
        assert!(!is_stopped(std::process::id()));
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        // The kernel reports the stop to the parent: no need to poll for it.
        let options = rustix::process::WaitOptions::UNTRACED;
        rustix::process::waitpid(Some(pid), options).unwrap();
        assert!(is_stopped(child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(
            is_stopped(child.id()),
            "a process that is gone does not run"
        );
    }

    #[tokio::test]
    async fn a_waiter_gets_the_lock_that_is_released() {
        let (_folder, lock) = lock();
        let alone = Mutex::new(lock.try_exclusive().unwrap());
        let let_go = |_: Option<&LockHolder>| drop(alone.lock().unwrap().take());
        lock.shared(Duration::from_secs(60), &let_go).await.unwrap();
    }

    #[test]
    fn a_link_in_its_place_is_refused_and_the_file_behind_it_is_left_alone() {
        let (folder, lock) = lock();
        let precious = Utf8Path::from_path(folder.path()).unwrap().join("precious");
        fs_err::write(&precious, "content").unwrap();
        let refused = |why: &str| {
            for result in [lock.try_exclusive().map(drop), lock.try_shared().map(drop)] {
                let error = result.unwrap_err().to_string();
                assert!(
                    error.contains(why) && error.contains(lock.path().as_str()),
                    "{error}"
                );
            }
            assert_eq!(lock.holder(), None);
            assert_eq!(fs_err::read_to_string(&precious).unwrap(), "content");
            fs_err::remove_file(lock.path()).unwrap();
        };
        std::os::unix::fs::symlink(&precious, lock.path()).unwrap();
        refused("it is a link");
        std::os::unix::fs::symlink("nowhere", lock.path()).unwrap();
        refused("it is a link");
        fs_err::hard_link(&precious, lock.path()).unwrap();
        refused("another name");
        let kind = rustix::fs::FileType::Fifo;
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, lock.path().as_str(), kind, mode, 0).unwrap();
        refused("special file");
    }

    #[test]
    fn a_holder_that_has_ended_is_not_named() {
        let (_folder, lock) = lock();
        let recycled = format!("{} 1 ", std::process::id());
        for stale in ["", "x", "4194305 1", "4194305 1 x", &recycled] {
            fs_err::write(lock.path(), stale).unwrap();
            assert_eq!(lock.holder(), None, "{stale:?}");
        }
    }
}
