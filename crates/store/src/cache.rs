//! The cache's folder.

use crate::bucket::Bucket;
use crate::error::StoreError;
use crate::sweep;
use camino::{Utf8Path, Utf8PathBuf};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;

/// The cache of one user.
#[derive(Debug, Clone)]
pub struct Cache(Utf8PathBuf);

impl Cache {
    /// The cache in `path`, made (for this user alone) if it is not there.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] if it cannot be made or written.
    pub fn open(path: impl Into<Utf8PathBuf>) -> Result<Self, StoreError> {
        let path = path.into();
        let usable = make_private(&path).and_then(|()| writable(&path));
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

    /// All buckets there are, whatever their kind and version, by the names of their folders.
    pub(crate) fn buckets(&self) -> Result<Vec<(String, Bucket)>, StoreError> {
        let mut found = Vec::new();
        for entry in self.0.read_dir_utf8()? {
            let path = entry?.into_path();
            let name = path.file_name().unwrap_or_default();
            let version = name
                .rsplit_once("-v")
                .map(|(_, version)| version.parse::<u32>());
            if path.is_dir() && matches!(version, Some(Ok(_))) {
                found.push((name.to_owned(), Bucket::at(path.clone())));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    /// The bucket of that kind and layout. What killed processes left in it is swept.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] if it cannot be made.
    pub fn bucket(&self, kind: &str, version: u32) -> Result<Bucket, StoreError> {
        let path = self.0.join(format!("{kind}-v{version}"));
        let bucket = Bucket::at(path.clone());
        let made = make_private(&path).and_then(|()| make_private(&bucket.locks()));
        made.map_err(|source| StoreError::Unusable {
            path: path.clone(),
            source,
        })?;
        sweep::sweep(&path);
        Ok(bucket)
    }
}

/// Makes a folder, and those above it, for this user alone. One that is there keeps its mode: it may
/// be a folder that the user shares with others on purpose.
pub(crate) fn make_private(path: &Utf8Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Tried rather than asked: permission bits do not know of read-only file systems.
fn writable(path: &Utf8Path) -> io::Result<()> {
    let trial = sweep::new_name(path);
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
}
