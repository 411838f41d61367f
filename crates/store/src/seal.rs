//! Sealed folders: folders of a user outside of the cache, each with a manifest of its own.
//!
//! A seal gives a folder a unique identity, so that a replacement at the same path can be distinguished
//! from it, and checksums, so that damage is detected as in a cache entry.

use crate::error::StoreError;
use crate::key::{Key, KeyBuilder};
use crate::manifest::{self, Manifest};
use camino::{Utf8Path, Utf8PathBuf};

/// The name of a seal's file in its folder. Its content differs between any two seals.
pub const SEAL: &str = manifest::NAME;

/// The state of a folder when it was sealed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seal {
    folder: Utf8PathBuf,
    key: Key,
}

impl Seal {
    /// Seals the folder as it is now.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn new(folder: &Utf8Path) -> Result<Self, StoreError> {
        let mut random = [0; 32];
        let flags = rustix::rand::GetRandomFlags::empty();
        rustix::rand::getrandom(&mut random, flags)
            .map_err(|error| StoreError::Io(error.into()))?;
        let key = KeyBuilder::new("sealed").with("chance", random).finish();
        Manifest::of(folder, &key)?.write(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
            key,
        })
    }

    /// The seal of a folder; its files are not checked.
    ///
    /// # Errors
    /// Why it does not have one that this version can read.
    pub fn read(folder: &Utf8Path) -> Result<Self, String> {
        Ok(Self {
            folder: folder.to_owned(),
            key: Manifest::read(folder)?.key,
        })
    }

    /// The same after the folder was moved to `place`.
    pub fn moved_to(self, place: &Utf8Path) -> Self {
        Self {
            folder: place.to_owned(),
            ..self
        }
    }

    /// Its folder.
    pub fn folder(&self) -> &Utf8Path {
        &self.folder
    }

    /// Its identity: no two seals share one.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Whether the folder at that path is still this one, and not another that replaced it.
    pub fn is_current(&self) -> bool {
        Self::read(&self.folder).is_ok_and(|now| now.key == self.key)
    }

    /// Checks the files. A large file is read only if it was changed since the last check.
    ///
    /// # Errors
    /// What is wrong with the folder.
    pub fn check(&self) -> Result<(), String> {
        Manifest::check(&self.folder, &self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_or_damaged_folder_is_distinguished_from_the_sealed_one() {
        let root = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(root.path()).unwrap();
        let (one, two) = (root.join("one"), root.join("two"));
        for folder in [&one, &two] {
            fs_err::create_dir_all(folder.join("part")).unwrap();
            fs_err::write(folder.join("part/file"), "same").unwrap();
            assert!(Seal::read(folder).unwrap_err().contains("no manifest"));
        }
        let seal = Seal::new(&one).unwrap();
        let other = Seal::new(&two).unwrap();
        assert_ne!(seal.key(), other.key(), "of the same content");
        assert_eq!(Seal::read(&one).unwrap(), seal);
        assert!(seal.is_current() && seal.check().is_ok());

        fs_err::write(one.join("part/file"), "sane").unwrap();
        assert_eq!(seal.check(), Err("`part/file` has changed".to_owned()));
        assert!(seal.is_current(), "damage is not another identity");

        fs_err::remove_dir_all(&one).unwrap();
        assert!(!seal.is_current());
        fs_err::rename(&two, &one).unwrap();
        assert!(!seal.is_current() && seal.check().is_err());
        assert!(other.moved_to(&one).is_current());
    }
}
