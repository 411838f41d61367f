//! Folders of runs: files that a run leaves for its user, such as the outputs that its report has cut.
//!
//! A folder is named by a number, the newest has the highest. It is locked as long as its run lives. When a
//! run makes one, old ones that no run holds are removed.

use crate::cache::Cache;
use crate::error::StoreError;
use crate::private::{check_owner, make_private};
use crate::temporary::{is_at, open_folder};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{FlockOperation, flock};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::time::Duration;

/// Most numbers that are tried. Two runs that begin at once try the same.
const ATTEMPTS: usize = 100;

/// Which folders of runs stay.
#[derive(Debug, Clone, Copy)]
pub struct RunFolderLimits {
    /// The number of the newest folders that are kept, the new one included.
    pub most: usize,
    /// Those that were made within this time.
    pub longest: Duration,
}

/// The folder of a run. Removed when it is dropped if it is still empty.
#[derive(Debug)]
pub struct RunFolder {
    path: Utf8PathBuf,
    _lock: File,
}

impl Cache {
    /// Makes a folder for this run among those of that kind, and removes old ones.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] if it cannot be made, [`StoreError::Foreign`] if the kind's folder belongs to
    /// another user.
    pub fn run_folder(&self, kind: &str, limits: RunFolderLimits) -> Result<RunFolder, StoreError> {
        let parent = self.path().join(kind);
        let unusable = |source| StoreError::Unusable {
            path: parent.clone(),
            source,
        };
        make_private(&parent).map_err(unusable)?;
        check_owner(&parent)?;
        let made = make(&parent).map_err(unusable)?;
        prune(&parent, limits);
        Ok(made)
    }
}

impl RunFolder {
    /// Its path.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        // It stays if there is something in it.
        let _ = std::fs::remove_dir(&self.path);
    }
}

fn make(parent: &Utf8Path) -> io::Result<RunFolder> {
    for _ in 0..ATTEMPTS {
        let next = numbers(parent)
            .last()
            .map_or(1, |last| last.saturating_add(1));
        let path = parent.join(next.to_string());
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => (),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(error),
        }
        let Ok(lock) = open_folder(&path) else {
            // Another run was faster than the lock.
            continue;
        };
        // Exclusively: the folder may have been removed before the lock, and made again by a run that locks it too.
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() && is_at(&lock, &path) {
            return Ok(RunFolder { path, _lock: lock });
        }
    }
    Err(io::Error::other(
        "other runs make and remove folders all the time",
    ))
}

/// Removes folders that are too old or too many. One that a run holds, or that cannot be removed, stays.
fn prune(parent: &Utf8Path, limits: RunFolderLimits) {
    for (index, number) in numbers(parent).into_iter().rev().enumerate() {
        let path = parent.join(number.to_string());
        let Ok(lock) = open_folder(&path) else {
            continue;
        };
        let made = lock.metadata().and_then(|metadata| metadata.modified());
        let age = made.ok().and_then(|made| made.elapsed().ok());
        let is_new = age.is_none_or(|age| age < limits.longest);
        if index < limits.most && is_new {
            continue;
        }
        // Its number may have gone to another run since it was opened.
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() && is_at(&lock, &path) {
            let _ = std::fs::remove_dir_all(&path);
        }
    }
}

/// The numbers of the folders, the lowest first.
fn numbers(parent: &Utf8Path) -> Vec<u64> {
    let entries = parent.read_dir_utf8().into_iter().flatten().flatten();
    let mut numbers: Vec<u64> = entries
        .filter_map(|entry| entry.file_name().parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    const LIMITS: RunFolderLimits = RunFolderLimits {
        most: 2,
        longest: Duration::from_secs(3600),
    };

    fn fill(folder: RunFolder) -> Utf8PathBuf {
        let path = folder.path().to_owned();
        fs_err::write(path.join("file"), "x").unwrap();
        path
    }

    #[test]
    fn the_newest_folders_and_those_in_use_stay() {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(folder.path()).unwrap();
        let cache = Cache::open(root.join("cache")).unwrap();
        let held = cache.run_folder("output", LIMITS).unwrap();
        fs_err::write(held.path().join("file"), "x").unwrap();
        let second = fill(cache.run_folder("output", LIMITS).unwrap());
        let third = fill(cache.run_folder("output", LIMITS).unwrap());
        assert!(second.exists() && held.path().exists());
        let fourth = fill(cache.run_folder("output", LIMITS).unwrap());
        assert!(!second.exists(), "two newer ones are there");
        assert!(held.path().exists(), "its run lives");
        assert!(third.exists() && fourth.exists());
        assert_eq!(fourth, root.join("cache/output/4"));

        let old = SystemTime::now() - 2 * LIMITS.longest;
        File::open(&fourth).unwrap().set_modified(old).unwrap();
        let fifth = cache.run_folder("output", LIMITS).unwrap();
        assert!(!fourth.exists(), "it is too old");
        let path = fifth.path().to_owned();
        drop(fifth);
        assert!(!path.exists(), "nothing was written to it");
    }

    #[test]
    fn runs_that_begin_at_once_have_folders_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(folder.path()).unwrap();
        let cache = Cache::open(root.join("cache")).unwrap();
        let make = || {
            let mine = cache.run_folder("output", LIMITS).unwrap();
            fs_err::OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(mine.path().join("file"))
                .unwrap();
            assert!(mine.path().join("file").exists());
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..50).for_each(|_| make()));
            }
        });
    }
}
