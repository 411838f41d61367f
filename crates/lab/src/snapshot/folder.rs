//! The folder of a snapshot: in the cache as long as it is needed, or where the test's author put it.

use crate::error::LabError;
use crate::lock::lock;
use crate::save::Base;
use camino::{Utf8Path, Utf8PathBuf};
use provium_store::{CacheEntry, Seal, StagingFolder, follow_links, size_on_disk};
use std::io;
use std::sync::{Arc, Mutex};

/// The file that every folder of a saved VM has.
pub(crate) const VM_SIGN: &str = "vm.json";

/// The file that every folder of a saved lab has.
pub(crate) const LAB_SIGN: &str = "lab.json";

/// A folder that is being filled, or has been.
#[derive(Debug)]
pub(crate) struct SnapshotDir {
    path: Utf8PathBuf,
    home: Mutex<SnapshotLocation>,
}

/// Who owns it.
#[derive(Debug, Clone)]
enum SnapshotLocation {
    /// It is removed with the last user: this, and machines and snapshots that share its RAM.
    Cached(Arc<StagingFolder>),
    /// The cache: it is a part of an entry.
    Entry(Arc<CacheEntry>),
    /// Its author. Without a seal it is a draft that is still being filled.
    Author(Option<Seal>),
    Gone,
}

impl SnapshotDir {
    /// A folder of the cache, or the part of it at `path`.
    pub(crate) fn cached(draft: &Arc<StagingFolder>, path: &Utf8Path) -> Self {
        Self::new(path, SnapshotLocation::Cached(Arc::clone(draft)))
    }

    /// The part of an entry of the cache at `path`.
    pub(crate) fn of_entry(entry: &Arc<CacheEntry>, path: &Utf8Path) -> Self {
        Self::new(path, SnapshotLocation::Entry(Arc::clone(entry)))
    }

    /// The draft of a folder that an author names.
    pub(crate) fn draft_of(named: &StagedDir) -> Self {
        Self::new(named.path(), SnapshotLocation::Author(None))
    }

    /// A folder that its author looks after, or the part of it at `path`.
    pub(crate) fn of_author(path: &Utf8Path, seal: Option<Seal>) -> Self {
        Self::new(path, SnapshotLocation::Author(seal))
    }

    fn new(path: &Utf8Path, home: SnapshotLocation) -> Self {
        Self {
            path: path.to_owned(),
            home: Mutex::new(home),
        }
    }

    /// A part of it, of the same keeper.
    pub(crate) fn part(&self, name: &str) -> Self {
        Self::new(&self.path.join(name), lock(&self.home).clone())
    }

    pub(crate) fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// As the base of what shares its RAM.
    pub(crate) fn as_base(&self) -> Base {
        match &*lock(&self.home) {
            SnapshotLocation::Cached(draft) => Base::draft(Arc::clone(draft), &self.path),
            SnapshotLocation::Entry(entry) => Base::part_of(Arc::clone(entry), &self.path),
            SnapshotLocation::Author(seal) => Base::of_author(&self.path, seal.clone()),
            SnapshotLocation::Gone => Base::of_author(&self.path, None),
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        matches!(*lock(&self.home), SnapshotLocation::Gone) || !self.path.exists()
    }

    /// Its seal, if it is an author's.
    fn seal(&self) -> Option<Seal> {
        match &*lock(&self.home) {
            SnapshotLocation::Author(seal) => seal.clone(),
            _ => None,
        }
    }

    /// Checks a folder of a test author before it is restored; `subject` is the saved object.
    ///
    /// # Errors
    /// When another snapshot has replaced it, or a file of it is damaged.
    pub(crate) async fn check(&self, subject: &str) -> Result<(), LabError> {
        let Some(seal) = self.seal() else {
            return Ok(());
        };
        if self.is_gone() {
            // The restore says so itself.
            return Ok(());
        }
        if !seal.is_current() {
            return Err(replaced(subject));
        }
        // Files that were changed are read, which takes a while where they are large.
        let checked = tokio::task::spawn_blocking(move || seal.check()).await;
        let why = match checked {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(why)) => why,
            Err(error) => error.to_string(),
        };
        Err(damaged(subject, &self.path, &why))
    }

    /// What its files take on the disk, bytes; 0 once it is gone.
    pub(crate) fn size(&self) -> u64 {
        if self.is_gone() || self.seal().is_some_and(|seal| !seal.is_current()) {
            return 0;
        }
        size_on_disk(&self.path)
    }

    /// Moves it to `place`, in the same file system, where something else looks after it.
    ///
    /// # Errors
    /// When it is not its own: an author's, or a part of an entry.
    pub(crate) fn move_to(&self, place: &Utf8Path) -> io::Result<()> {
        let mut home = lock(&self.home);
        if !matches!(*home, SnapshotLocation::Cached(_)) {
            return Err(io::Error::other(
                "it must return a snapshot that was taken in it, without a folder",
            ));
        }
        fs_err::rename(&self.path, place)?;
        *home = SnapshotLocation::Gone;
        Ok(())
    }

    /// Removes it, as soon as nothing needs it. Nothing is done if it is gone, or if another snapshot
    /// has replaced it.
    pub(crate) fn delete(&self) -> io::Result<()> {
        let home = std::mem::replace(&mut *lock(&self.home), SnapshotLocation::Gone);
        let SnapshotLocation::Author(seal) = home else {
            return Ok(());
        };
        if seal.is_some_and(|seal| !seal.is_current()) {
            return Ok(());
        }
        match std::fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// The error of a snapshot whose folder holds another one now.
pub(crate) fn replaced(subject: &str) -> LabError {
    let why = "another snapshot has replaced it in its folder since";
    LabError::gone(subject, "restore()", why)
}

/// The error of a snapshot whose files are not what was saved.
pub(crate) fn damaged(subject: &str, folder: &Utf8Path, why: &str) -> LabError {
    let text = format!("`{folder}` is damaged: {why}; take the snapshot again");
    LabError::host(subject, "restore()", io::Error::other(text))
}

/// Opens the snapshot in a folder that its author looks after. What `open` finds wrong with it is said
/// first: a folder of another version may have no seal.
///
/// # Errors
/// Those of `open`; when the folder does not exist, or has no seal that can be read.
pub(crate) fn open_sealed<T>(
    path: &Utf8Path,
    sign: &str,
    open: impl FnOnce(SnapshotDir) -> Result<T, LabError>,
) -> Result<T, LabError> {
    let subject = format!("snapshot `{path}`");
    let invalid = |why: &str| LabError::invalid(&subject, "restore()", why);
    if !path.exists() {
        return Err(invalid("the folder does not exist"));
    }
    if !path.join(sign).exists() {
        let why = match sign {
            VM_SIGN if path.join(LAB_SIGN).exists() => {
                "it holds the snapshot of a lab, and no `vm.json`; restore it with lab:restore()"
            }
            LAB_SIGN if path.join(VM_SIGN).exists() => {
                "it holds the snapshot of a VM, and no `lab.json`; restore it with vm:restore()"
            }
            _ => "it holds no snapshot: it has no `vm.json` and no `lab.json`",
        };
        return Err(invalid(why));
    }
    let seal = Seal::read(path);
    let opened = open(SnapshotDir::of_author(path, seal.clone().ok()))?;
    match seal {
        Ok(_) => Ok(opened),
        Err(why) => Err(damaged(&subject, path, &why)),
    }
}

/// Restores the snapshot in the folder at `path` by calling `attempt`, which opens it. If it fails while
/// another snapshot replaces the folder, the new one is restored, once.
///
/// # Errors
/// Those of `attempt`.
pub(crate) async fn restore_current<T>(
    path: &Utf8Path,
    attempt: impl AsyncFn() -> Result<T, LabError>,
) -> Result<T, LabError> {
    let before = Seal::read(path);
    let result = attempt().await;
    let is_replaced = || before.is_ok_and(|seal| !seal.is_current()) && Seal::read(path).is_ok();
    match result {
        Err(_) if is_replaced() => attempt().await,
        result => result,
    }
}

/// A folder that an author names: filled in a staging folder beside it, then moved there as a whole.
#[derive(Debug)]
pub(crate) struct StagedDir {
    place: Utf8PathBuf,
    sign: &'static str,
    draft: StagingFolder,
}

impl StagedDir {
    /// For `place`, which must be free, or hold an older snapshot (a file of the name `sign`). A link
    /// is followed.
    pub(crate) fn new(place: &Utf8Path, sign: &'static str) -> io::Result<Self> {
        let place = follow_links(place)?;
        check_place(&place, sign)?;
        Ok(Self {
            draft: StagingFolder::beside(&place)?,
            place,
            sign,
        })
    }

    pub(crate) fn path(&self) -> &Utf8Path {
        self.draft.path()
    }

    /// Seals what it was filled with, which reads all of it.
    pub(crate) async fn seal(&self) -> io::Result<Seal> {
        let path = self.draft.path().to_owned();
        let sealed = tokio::task::spawn_blocking(move || Seal::new(&path)).await;
        sealed?.map_err(io::Error::other)
    }

    /// Puts it in its place, and gives the seal of the folder there.
    pub(crate) fn install(self, seal: Seal) -> io::Result<Seal> {
        // It may have been filled for minutes.
        check_place(&self.place, self.sign)?;
        self.draft.replace(&self.place)?;
        Ok(seal.moved_to(&self.place))
    }
}

/// Refuses to replace what is not a snapshot.
fn check_place(place: &Utf8Path, sign: &str) -> io::Result<()> {
    let refused = |text: String| Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    let Ok(metadata) = place.metadata() else {
        return Ok(());
    };
    if !metadata.is_dir() {
        return refused(format!(
            "`{place}` is not a folder; name one that is new, empty, or holds an older snapshot"
        ));
    }
    let is_free = place.join(sign).exists()
        || match fs_err::read_dir(place) {
            Ok(mut entries) => entries.next().is_none(),
            // It is being removed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(error),
        };
    if !is_free {
        return refused(format!(
            "there is something else in `{place}`; name a new folder"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> (tempfile::TempDir, Utf8PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(root.path().to_owned()).unwrap();
        (root, path)
    }

    async fn put(place: &Utf8Path, content: &str) -> Seal {
        let named = StagedDir::new(place, VM_SIGN).unwrap();
        fs_err::write(named.path().join("vm.json"), content).unwrap();
        let seal = named.seal().await.unwrap();
        named.install(seal).unwrap()
    }

    #[tokio::test]
    async fn a_named_folder_replaces_an_older_one_and_nothing_else() {
        let (_root, root) = root();
        let place = root.join("deep/snap");
        for content in ["one", "two"] {
            let seal = put(&place, content).await;
            assert_eq!(seal.folder(), place);
            assert!(seal.is_current());
            let found = fs_err::read_to_string(place.join("vm.json")).unwrap();
            assert_eq!(found, content);
        }
        drop(StagedDir::new(&place, VM_SIGN).unwrap());
        assert_eq!(root.join("deep").read_dir_utf8().unwrap().count(), 1);

        fs_err::write(root.join("deep/other"), "").unwrap();
        let why = |path: &str| {
            let error = StagedDir::new(&root.join(path), VM_SIGN).unwrap_err();
            error.to_string()
        };
        assert!(why("deep").contains("something else"), "{}", why("deep"));
        assert!(why("deep/other").contains("deep/other` is not a folder"));
        fs_err::create_dir(root.join("empty")).unwrap();
        put(&root.join("empty"), "x").await;
        let link = root.join("link");
        std::os::unix::fs::symlink(&place, &link).unwrap();
        assert_eq!(put(&link, "by link").await.folder(), place);
        assert!(link.symlink_metadata().unwrap().is_symlink());
    }

    #[tokio::test]
    async fn a_folder_that_is_replaced_during_a_restore_is_restored_from_the_new_one() {
        let (_root, root) = root();
        let place = root.join("snap");
        let seals = std::cell::RefCell::new(vec![put(&place, "one").await]);
        let content = || fs_err::read_to_string(place.join("vm.json")).unwrap();
        // The first attempt reads the older one, which is replaced before it is done.
        let restored = restore_current(&place, async || {
            let older = SnapshotDir::of_author(&place, seals.borrow().last().cloned());
            if seals.borrow().len() == 1 {
                let newer = put(&place, "two").await;
                seals.borrow_mut().push(newer);
            }
            older.check("snapshot").await?;
            Ok(content())
        });
        assert_eq!(restored.await.unwrap(), "two");

        let attempts = std::cell::Cell::new(0);
        let failed = restore_current(&place, async || {
            attempts.set(attempts.get() + 1);
            Err::<(), _>(replaced("snapshot"))
        });
        assert!(failed.await.is_err());
        assert_eq!(attempts.get(), 1, "other failures are not repeated");
    }

    #[tokio::test]
    async fn a_replaced_or_damaged_folder_is_refused_and_not_deleted_by_the_older_handle() {
        let (_root, root) = root();
        let place = root.join("snap");
        let older = SnapshotDir::of_author(&place, Some(put(&place, "one").await));
        let newer = SnapshotDir::of_author(&place, Some(put(&place, "two").await));
        let why = older.check("snapshot").await.unwrap_err().to_string();
        assert!(why.contains("another snapshot has replaced it"), "{why}");
        assert_eq!(older.size(), 0);
        older.delete().unwrap();
        newer.check("snapshot").await.unwrap();
        assert!(newer.size() > 0);

        fs_err::write(place.join("vm.json"), "owt").unwrap();
        let why = newer.check("snapshot").await.unwrap_err().to_string();
        assert!(why.contains("is damaged: `vm.json` has changed"), "{why}");
        newer.delete().unwrap();
        newer.delete().unwrap();
        assert_eq!(newer.size(), 0);
        assert!(!place.exists());
    }
}
