//! Where a snapshot lies: in the cache until nobody holds it, or where its author wants it.

use crate::lock::lock;
use crate::saved::Base;
use camino::{Utf8Path, Utf8PathBuf};
use provium_store::{Draft, Entry, size_on_disk};
use std::io;
use std::sync::{Arc, Mutex};

/// A folder that is being filled, or has been.
#[derive(Debug)]
pub(crate) struct Folder {
    path: Utf8PathBuf,
    home: Mutex<Home>,
}

/// Who looks after it.
#[derive(Debug, Clone)]
enum Home {
    /// It goes with the last that needs it: this, and machines and snapshots that share its RAM.
    Cached(Arc<Draft>),
    /// The cache: it is a part of an entry.
    Entry(Arc<Entry>),
    /// Its author.
    Named,
    Gone,
}

impl Folder {
    /// A folder of the cache, or the part of it at `path`.
    pub(crate) fn cached(draft: &Arc<Draft>, path: &Utf8Path) -> Self {
        Self {
            path: path.to_owned(),
            home: Mutex::new(Home::Cached(Arc::clone(draft))),
        }
    }

    /// The part of an entry of the cache at `path`.
    pub(crate) fn of_entry(entry: &Arc<Entry>, path: &Utf8Path) -> Self {
        Self {
            path: path.to_owned(),
            home: Mutex::new(Home::Entry(Arc::clone(entry))),
        }
    }

    /// A folder that an author looks after, or is going to.
    pub(crate) fn named(path: &Utf8Path) -> Self {
        Self {
            path: path.to_owned(),
            home: Mutex::new(Home::Named),
        }
    }

    /// A part of it, of the same keeper.
    pub(crate) fn part(&self, name: &str) -> Self {
        Self {
            path: self.path.join(name),
            home: Mutex::new(lock(&self.home).clone()),
        }
    }

    pub(crate) fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// As the base of what shares its RAM.
    pub(crate) fn as_base(&self) -> Base {
        match &*lock(&self.home) {
            Home::Cached(draft) => Base::draft(Arc::clone(draft), &self.path),
            Home::Entry(entry) => Base::part_of(Arc::clone(entry), &self.path),
            Home::Named | Home::Gone => Base::folder(&self.path),
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        matches!(*lock(&self.home), Home::Gone) || !self.path.exists()
    }

    /// What its files take on the disk, bytes; 0 once it is gone.
    pub(crate) fn size(&self) -> u64 {
        if self.is_gone() {
            return 0;
        }
        size_on_disk(&self.path)
    }

    /// Moves it to `place`, in the same file system; it is somebody else's from then on.
    ///
    /// # Errors
    /// When it is not its own: an author's, or a part of an entry.
    pub(crate) fn move_to(&self, place: &Utf8Path) -> io::Result<()> {
        let mut home = lock(&self.home);
        if !matches!(*home, Home::Cached(_)) {
            return Err(io::Error::other(
                "it must return a snapshot that was taken in it, without a folder",
            ));
        }
        fs_err::rename(&self.path, place)?;
        *home = Home::Gone;
        Ok(())
    }

    /// Removes it, as soon as nothing needs it; gone already is fine.
    pub(crate) fn delete(&self) -> io::Result<()> {
        let home = std::mem::replace(&mut *lock(&self.home), Home::Gone);
        if !matches!(home, Home::Named) {
            return Ok(());
        }
        match std::fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// A folder that an author names: filled beside its place, then put there.
#[derive(Debug)]
pub(crate) struct Named {
    place: Utf8PathBuf,
    draft: Utf8PathBuf,
    installed: bool,
}

impl Named {
    /// For `place`, which must be free, or hold an older snapshot (a file of the name `sign`).
    pub(crate) fn new(place: &Utf8Path, sign: &str) -> io::Result<Self> {
        let taken = place.exists() && !place.join(sign).exists();
        if taken && place.read_dir_utf8()?.next().is_some() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "there is something else at that place; name a new folder",
            ));
        }
        let name = place.file_name().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "the path names no folder")
        })?;
        let parent = place.parent().filter(|parent| !parent.as_str().is_empty());
        let parent = parent.unwrap_or(Utf8Path::new("."));
        fs_err::create_dir_all(parent)?;
        let draft = parent.join(format!(".{name}.tmp-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&draft);
        fs_err::create_dir(&draft)?;
        Ok(Self {
            place: place.to_owned(),
            draft,
            installed: false,
        })
    }

    pub(crate) fn path(&self) -> &Utf8Path {
        &self.draft
    }

    /// Puts it in its place.
    pub(crate) fn install(mut self) -> io::Result<Utf8PathBuf> {
        if self.place.exists() {
            fs_err::remove_dir_all(&self.place)?;
        }
        fs_err::rename(&self.draft, &self.place)?;
        self.installed = true;
        Ok(self.place.clone())
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        if !self.installed {
            let _ = std::fs::remove_dir_all(&self.draft);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_folder_replaces_an_older_one_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(root.path()).unwrap();
        let place = root.join("deep/snap");
        for content in ["one", "two"] {
            let named = Named::new(&place, "vm.json").unwrap();
            fs_err::write(named.path().join("vm.json"), content).unwrap();
            assert_eq!(named.install().unwrap(), place);
            assert_eq!(
                fs_err::read_to_string(place.join("vm.json")).unwrap(),
                content
            );
        }
        drop(Named::new(&place, "vm.json").unwrap());
        assert_eq!(root.join("deep").read_dir_utf8().unwrap().count(), 1);
        assert!(Folder::named(&place).size() > 0);
        Folder::named(&place).delete().unwrap();
        Folder::named(&place).delete().unwrap();
        assert_eq!(Folder::named(&place).size(), 0);

        fs_err::write(root.join("deep/other"), "").unwrap();
        let error = Named::new(&root.join("deep"), "vm.json").unwrap_err();
        assert!(error.to_string().contains("something else"), "{error}");
    }
}
