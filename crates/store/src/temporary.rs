//! Temporary folders. The process that fills one holds a lock on it (`flock(2)`); a folder without a
//! lock was left by a process that has ended, and is removed by the next sweep.
//!
//! The lock works between processes that do not see each other in `/proc`, as in two containers that
//! share a cache. The process id in a name is for people who look at the folder.

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::sync::atomic::{AtomicU32, Ordering};

/// How the names of temporary folders begin in a bucket.
pub(crate) const PREFIX: &str = ".tmp-";

/// Maximum number of names that are tried. Names collide only between PID namespaces.
const ATTEMPTS: usize = 100;

/// A temporary folder of this process. Dropping it gives up the lock and leaves the folder.
#[derive(Debug)]
pub(crate) struct LockedFolder {
    pub(crate) path: Utf8PathBuf,
    _lock: File,
}

/// A name for a new temporary folder of this process in `parent`.
pub(crate) fn new_name(parent: &Utf8Path, prefix: &str) -> Utf8PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let pid = std::process::id();
    let start = start_time(pid).unwrap_or(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    parent.join(format!("{prefix}{pid}-{start}-{number}"))
}

/// Makes a temporary folder in `parent`, for this user alone.
pub(crate) fn make(parent: &Utf8Path, prefix: &str) -> io::Result<LockedFolder> {
    for _ in 0..ATTEMPTS {
        let path = new_name(parent, prefix);
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => (),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(named(&path, error)),
        }
        let lock = match open_folder(&path) {
            Ok(lock) => lock,
            // A sweep was faster than the lock.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(named(&path, error)),
        };
        match flock(&lock, FlockOperation::NonBlockingLockShared) {
            Ok(()) if is_at(&lock, &path) => return Ok(LockedFolder { path, _lock: lock }),
            Ok(()) | Err(rustix::io::Errno::WOULDBLOCK) => (),
            Err(error) => {
                let _ = std::fs::remove_dir(&path);
                return Err(named(&path, error.into()));
            }
        }
    }
    Err(io::Error::other(format!(
        "no temporary folder can be made in `{parent}`: each is removed at once"
    )))
}

/// Removes the temporary folders in `parent` that no process holds. One that cannot be removed stays
/// for the next sweep.
pub(crate) fn sweep(parent: &Utf8Path, prefix: &str) {
    let Ok(entries) = parent.read_dir_utf8() else {
        return;
    };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().strip_prefix(prefix).is_some_and(|rest| {
            !rest.is_empty() && rest.bytes().all(|c| c.is_ascii_digit() || c == b'-')
        });
        if !is_ours {
            continue;
        }
        let Ok(lock) = open_folder(entry.path()) else {
            continue;
        };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

pub(crate) fn open_folder(path: &Utf8Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path.as_std_path(), flags, Mode::empty())?;
    Ok(File::from(folder))
}

/// Whether the open folder is the one at `path`.
pub(crate) fn is_at(folder: &File, path: &Utf8Path) -> bool {
    let (Ok(one), Ok(other)) = (folder.metadata(), path.symlink_metadata()) else {
        return false;
    };
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

fn named(path: &Utf8Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot make `{path}`: {error}"))
}

/// When the process started, in clock ticks since the host's boot; `None` if it cannot be seen.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    process_stat(pid)?.nth(19)?.parse().ok()
}

/// Whether the process is stopped by a signal or a debugger; also `true` if it cannot be seen.
pub(crate) fn is_stopped(pid: u32) -> bool {
    let state = process_stat(pid).and_then(|mut fields| fields.next());
    state.is_none_or(|state| matches!(state.as_str(), "T" | "t"))
}

/// The fields of `/proc/PID/stat` from the third on, the state; see `proc_pid_stat(5)`.
fn process_stat(pid: u32) -> Option<std::vec::IntoIter<String>> {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field may hold anything, also spaces and parentheses; it ends with the last `)`.
    let fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some(fields.map(str::to_owned).collect::<Vec<_>>().into_iter())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_swept_when_its_lock_is_free_whatever_its_process() {
        let folder = tempfile::tempdir().unwrap();
        let bucket = Utf8Path::from_path(folder.path()).unwrap();
        let mine = make(bucket, PREFIX).unwrap();
        // Another process holds it that is not to be seen in this PID namespace.
        let foreign = bucket.join(format!("{PREFIX}4194305-77-0"));
        fs_err::create_dir(&foreign).unwrap();
        let held = open_folder(&foreign).unwrap();
        flock(&held, FlockOperation::LockShared).unwrap();
        // This process would be taken for its owner by its id.
        let left = new_name(bucket, PREFIX);
        let other = bucket.join(".tmp-notes");
        for path in [&left, &bucket.join("entry"), &other] {
            fs_err::create_dir(path).unwrap();
        }
        fs_err::write(left.join("half"), "x").unwrap();
        sweep(bucket, PREFIX);
        assert!(mine.path.exists() && bucket.join("entry").exists() && other.exists());
        assert!(foreign.exists(), "it is locked");
        assert!(!left.exists());
        drop(held);
        drop(mine);
        sweep(bucket, PREFIX);
        assert!(!foreign.exists());
        let names = bucket.read_dir_utf8().unwrap().count();
        assert_eq!(names, 2);
    }

    #[test]
    fn makers_and_sweepers_at_once_never_lose_a_held_folder() {
        let folder = tempfile::tempdir().unwrap();
        let bucket = Utf8Path::from_path(folder.path()).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..200).for_each(|_| sweep(bucket, PREFIX)));
            }
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let held = make(bucket, PREFIX).unwrap();
                        fs_err::write(held.path.join("file"), "x").unwrap();
                        assert!(held.path.join("file").exists());
                    }
                });
            }
        });
    }
}
