//! The cache's folder.

use crate::bucket::Bucket;
use crate::error::StoreError;
use crate::private::{check_owner, make_private};
use crate::temporary;
use camino::{Utf8Path, Utf8PathBuf};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;

/// The cache of one user.
#[derive(Debug, Clone)]
pub struct Cache(Utf8PathBuf);

impl Cache {
    /// Opens the cache in `path`; makes the folder, for this user alone, if it does not exist.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] if it cannot be made or written, [`StoreError::Foreign`] if it
    /// belongs to another user, who could change what guests boot from.
    pub fn open(path: impl Into<Utf8PathBuf>) -> Result<Self, StoreError> {
        let path = path.into();
        let usable = make_private(&path).and_then(|()| check_writable(&path));
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

    /// Opens the bucket of that kind and layout. Temporary folders that killed processes left in it
    /// are removed.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] if it cannot be made, [`StoreError::Foreign`] if it belongs to another
    /// user.
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
        temporary::sweep(&path, temporary::PREFIX);
        Ok(bucket)
    }
}

/// Makes a folder in `path`, since permission bits do not show a read-only file system.
fn check_writable(path: &Utf8Path) -> io::Result<()> {
    let trial = temporary::new_name(path, temporary::PREFIX);
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
            // Only root can give a folder away; what root owns is foreign to any other user.
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
            names("user id 65534");
            names("cache_dir");
            std::os::unix::fs::chown(&path, Some(0), None).unwrap();
        }
        assert!(Cache::open(&mine).unwrap().bucket("guests", 1).is_ok());
    }
}
