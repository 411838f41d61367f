//! The cache's folder.

use crate::bucket::Bucket;
use crate::error::StoreError;
use crate::sweep;
use camino::{Utf8Path, Utf8PathBuf};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};

/// The cache of one user.
#[derive(Debug, Clone)]
pub struct Cache(Utf8PathBuf);

impl Cache {
    /// The cache in `path`, made (for this user alone) if it is not there.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] if it cannot be made or written, [`StoreError::Foreign`] if it is
    /// another user's, who could change what guests boot from.
    pub fn open(path: impl Into<Utf8PathBuf>) -> Result<Self, StoreError> {
        let path = path.into();
        let usable = make_private(&path).and_then(|()| writable(&path));
        let foreign = check_owner(&path);
        if matches!(foreign, Err(StoreError::Foreign { .. })) {
            foreign?;
        }
        usable.map_err(|source| StoreError::Unusable {
            path: path.clone(),
            source,
        })?;
        Ok(Self(path))
    }

    /// Its folder.
    pub fn path(&self) -> &Utf8Path {
        &self.0
    }

    /// All buckets of this user, whatever their kind and version, by the names of their folders.
    pub(crate) fn buckets(&self) -> Result<Vec<(String, Bucket)>, StoreError> {
        let mut found = Vec::new();
        for entry in self.0.read_dir_utf8()? {
            let path = entry?.into_path();
            let name = path.file_name().unwrap_or_default();
            let version = name
                .rsplit_once("-v")
                .map(|(_, version)| version.parse::<u32>());
            let is_bucket = path.is_dir() && matches!(version, Some(Ok(_)));
            if is_bucket && check_owner(&path).is_ok() {
                found.push((name.to_owned(), Bucket::at(path.clone())));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    /// The bucket of that kind and layout. What killed processes left in it is swept.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] if it cannot be made, [`StoreError::Foreign`] if it is another user's.
    pub fn bucket(&self, kind: &str, version: u32) -> Result<Bucket, StoreError> {
        let path = self.0.join(format!("{kind}-v{version}"));
        let bucket = Bucket::at(path.clone());
        let unusable = |source| StoreError::Unusable {
            path: path.clone(),
            source,
        };
        make_private(&path).map_err(unusable)?;
        check_owner(&path)?;
        let locks = bucket.locks();
        make_private(&locks).map_err(unusable)?;
        check_owner(&locks)?;
        sweep::sweep(&path, sweep::PREFIX);
        Ok(bucket)
    }
}

/// Makes a folder, and those above it, for this user alone. One that is there keeps its mode: it may
/// be a folder that the user shares with others on purpose.
pub(crate) fn make_private(path: &Utf8Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Refuses what belongs to another user: its owner could replace what this user's guests boot from.
pub(crate) fn check_owner(path: &Utf8Path) -> Result<(), StoreError> {
    let owner = fs_err::metadata(path)?.uid();
    let user = rustix::process::geteuid().as_raw();
    if owner == user {
        return Ok(());
    }
    Err(StoreError::Foreign {
        path: path.to_owned(),
        owner,
        user,
    })
}

/// Tried rather than asked: permission bits do not know of read-only file systems.
fn writable(path: &Utf8Path) -> io::Result<()> {
    let trial = sweep::new_name(path, sweep::PREFIX);
    DirBuilder::new().mode(0o700).create(&trial)?;
    std::fs::remove_dir(&trial)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn made_for_one_user_and_refused_with_the_folders_name() {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(folder.path()).unwrap();
        let cache = Cache::open(root.join("a/cache")).unwrap();
        cache.bucket("guests", 1).unwrap();
        for path in ["a/cache", "a/cache/guests-v1", "a/cache/guests-v1/LOCKS"] {
            let mode = fs_err::metadata(root.join(path))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o700, "{path}");
        }

        fs_err::write(root.join("file"), "").unwrap();
        let error = Cache::open(root.join("file/cache")).unwrap_err();
        assert!(error.to_string().contains("file/cache"), "{error}");
        assert!(error.to_string().contains("cache_dir"), "{error}");
    }

    #[test]
    fn what_another_user_owns_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(folder.path()).unwrap();
        let mine = root.join("cache");
        let cache = Cache::open(&mine).unwrap();
        cache.bucket("guests", 1).unwrap();
        if !rustix::process::geteuid().is_root() {
            // Only root can give a folder away; what root owns is another's for everybody else.
            let error = check_owner(Utf8Path::new("/")).unwrap_err();
            assert!(matches!(error, StoreError::Foreign { owner: 0, .. }));
            return;
        }
        for part in ["guests-v1/LOCKS", "guests-v1", ""] {
            let path = mine.join(part);
            std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
            let opened = Cache::open(&mine).and_then(|cache| cache.bucket("guests", 1));
            let error = opened.unwrap_err().to_string();
            let names = |text: &str| assert!(error.contains(text), "{error}");
            names(path.as_str().trim_end_matches('/'));
            names("user with id 65534");
            names("cache_dir");
            std::os::unix::fs::chown(&path, Some(0), None).unwrap();
        }
        assert!(Cache::open(&mine).unwrap().bucket("guests", 1).is_ok());
    }
}
