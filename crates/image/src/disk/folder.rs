//! A folder as a disk.

use super::DiskImage;
use super::ext4::{self, Attributes, Source};
use super::size::dimensions;
use super::source::ImageSource;
use crate::blocking::blocking;
use crate::error::ImageError;
use crate::images::Images;
use crate::progress::report;
use crate::walk::{owner, user, walk};
use camino::{Utf8Path, Utf8PathBuf};
use provium_store::{CacheEntry, Key, KeyBuilder, Notice};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

/// How images are made. Raised when they are made in another way.
const LAYOUT: u64 = 2;

/// The file in an entry.
pub(crate) const FILE: &str = "ext4.img";

impl Images {
    /// An ext4 file system with the content of a folder: modes, owners, times, links, holes and extended attributes.
    /// Kept by what `stat` says of each file, so that an unchanged folder is not read again.
    ///
    /// What belongs on the host to the user (or group) who runs this belongs to root in the guest, and all else to
    /// the same number as on the host. If root runs this, everything keeps its owner.
    ///
    /// # Errors
    /// [`ImageError::NoTool`] without e2fsprogs; [`ImageError::Read`] for a file that cannot be read.
    pub async fn disk_of_folder(&self, folder: &Utf8Path) -> Result<DiskImage, ImageError> {
        let (uid, gid) = user();
        let owners = move |of_user, of_group| (owner(of_user, uid), owner(of_group, gid));
        self.disk_of_folder_with(folder, owners).await
    }

    /// The same, with these owners in the guest of what belongs to a user and a group on the host.
    async fn disk_of_folder_with(
        &self,
        folder: &Utf8Path,
        owners: impl Fn(u32, u32) -> (u32, u32) + Send + 'static,
    ) -> Result<DiskImage, ImageError> {
        if !folder.is_dir() {
            return Err(ImageError::NotAFolder {
                path: folder.to_owned(),
            });
        }
        let source = folder.to_owned();
        let (found, stamp, wanted, key) = blocking(move || {
            let found = walk(&source, &BTreeSet::new(), &|_, _| true)?;
            let stamp = found.stamp()?;
            let mut wanted = found.clone();
            wanted.map_owners(owners);
            let key = KeyBuilder::new("disk of a folder")
                .with_number("layout", LAYOUT)
                .with("tree", wanted.stamp()?.as_str())
                .finish();
            Ok((found, stamp, wanted, key))
        })
        .await
        .map_err(|error| match error {
            // It was listed.
            ImageError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                let path = folder.to_owned();
                ImageError::FolderChanged { path }
            }
            error => error,
        })?;
        let what = format!("the disk of `{folder}`");
        let progress = &self.progress;
        let notify = |notice: Notice<'_>| report(&**progress, &what, notice);
        let make = async |entry: Utf8PathBuf| {
            progress.step(&format!("making a file system of `{folder}`"));
            let source = Source {
                folder: folder.to_owned(),
                wanted,
                found,
                attributes: Attributes::new(),
            };
            let dimensions = dimensions(&source.wanted)?;
            let made = ext4::make(source, dimensions, &entry, &entry.join(FILE)).await;
            // Also of an image that was made: it may have a part of each content. What a tool says of a file that it
            // no longer finds does not explain it.
            let now = folder.to_owned();
            let now = blocking(move || walk(&now, &BTreeSet::new(), &|_, _| true)?.stamp()).await;
            match now {
                Ok(now) if now == stamp => made?,
                _ => {
                    let path = folder.to_owned();
                    return Err(ImageError::FolderChanged { path });
                }
            }
            ImageSource::write("folder", folder, &entry)
        };
        let entry = self
            .disks
            .get_or_build::<ImageError, _>(&key, &notify, make)
            .await?;
        DiskImage::in_entry(entry, FILE, &key)
    }
}

impl DiskImage {
    /// The ext4 image that is the file `name` of an entry.
    pub(crate) fn in_entry(entry: CacheEntry, name: &str, key: &Key) -> Result<Self, ImageError> {
        let path = entry.file(name);
        let metadata = path.metadata();
        let metadata = metadata.map_err(|source| ImageError::Read {
            path: path.clone(),
            source,
        })?;
        Ok(Self {
            size: metadata.len(),
            filesystem: super::raw::filesystem(&path)?,
            id: Some(key.to_string()),
            path,
            held: Some(Arc::new(entry)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::SilentProgress;
    use std::fs::{File, FileTimes, Permissions};
    use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    struct Fixture {
        _temporary: tempfile::TempDir,
        path: Utf8PathBuf,
        folder: Utf8PathBuf,
        images: Images,
    }

    impl Fixture {
        fn new() -> Self {
            let temporary = tempfile::tempdir().unwrap();
            let path = Utf8PathBuf::from_path_buf(temporary.path().to_owned()).unwrap();
            let folder = path.join("tree");
            fs_err::create_dir(&folder).unwrap();
            let images = Images::open(&path.join("cache"), Arc::new(SilentProgress)).unwrap();
            Self {
                _temporary: temporary,
                path,
                folder,
                images,
            }
        }

        async fn disk(&self) -> DiskImage {
            let disk = self.images.disk_of_folder(&self.folder).await;
            checked(disk.unwrap())
        }

        /// Everything belongs to the user and the group.
        async fn disk_of(&self, uid: u32, gid: u32) -> Result<DiskImage, ImageError> {
            let owners = move |_, _| (uid, gid);
            self.images.disk_of_folder_with(&self.folder, owners).await
        }
    }

    /// The disk, which `e2fsck` has found right.
    fn checked(disk: DiskImage) -> DiskImage {
        let checked = Command::new("/usr/sbin/e2fsck")
            .args(["-f", "-n"])
            .arg(&disk.path)
            .output()
            .unwrap();
        assert!(checked.status.success(), "{checked:?}");
        assert_eq!(disk.filesystem, Some("ext4"));
        disk
    }

    /// What `debugfs` says of a file.
    fn debugfs(disk: &DiskImage, request: &str) -> String {
        let said = Command::new("/usr/sbin/debugfs")
            .args(["-R", request])
            .arg(&disk.path)
            .output()
            .unwrap();
        String::from_utf8_lossy(&said.stdout).into_owned()
    }

    /// Mode, user, group and length of a file.
    fn facts(disk: &DiskImage, path: &str) -> (String, u32, u32, u64) {
        let said = debugfs(disk, &format!("stat \"{path}\""));
        let word = |name: &str| {
            let (_, rest) = said.split_once(name).unwrap_or_else(|| panic!("{said}"));
            rest.split_whitespace().next().unwrap().to_owned()
        };
        (
            word("Mode:"),
            word("User:").parse().unwrap(),
            word("Group:").parse().unwrap(),
            word("Size:").parse().unwrap(),
        )
    }

    #[tokio::test]
    async fn a_disk_has_what_the_folder_has() {
        let fixture = Fixture::new();
        let folder = &fixture.folder;
        let long = "n".repeat(255);
        fs_err::create_dir(folder.join("sub")).unwrap();
        fs_err::write(folder.join("sub/program"), "program").unwrap();
        let setuid = Permissions::from_mode(0o4751);
        fs_err::set_permissions(folder.join("sub/program"), setuid).unwrap();
        fs_err::hard_link(folder.join("sub/program"), folder.join("other name")).unwrap();
        symlink("sub/program", folder.join("link")).unwrap();
        fs_err::write(folder.join(&long), "long").unwrap();
        fs_err::write(folder.join("quo\"te"), "quote").unwrap();
        let sparse = File::create(folder.join("sparse")).unwrap();
        sparse.set_len(1 << 32).unwrap();
        sparse.write_all_at(b"end", (1 << 32) - 3).unwrap();
        rustix::fs::setxattr(
            folder.join("sub/program").as_std_path(),
            "user.note",
            b"kept",
            rustix::fs::XattrFlags::empty(),
        )
        .unwrap();

        let late = File::create(folder.join("late")).unwrap();
        let after_2038 = Duration::new(4_102_444_800, 250_000_000);
        late.set_modified(UNIX_EPOCH + after_2038).unwrap();

        let disk = fixture.disk().await;
        assert!(disk.size < 256 << 20, "holes take no room: {}", disk.size);
        let program = ("04751".to_owned(), 0, 0, 7);
        assert_eq!(facts(&disk, "/sub/program"), program);
        assert_eq!(facts(&disk, "/other name"), program);
        assert!(debugfs(&disk, "stat \"/other name\"").contains("Links: 2"));
        assert!(debugfs(&disk, "stat /link").contains("Fast link dest: \"sub/program\""));
        assert!(debugfs(&disk, "ea_list /sub/program").contains("user.note"));
        assert_eq!(facts(&disk, &format!("/{long}")).3, 4);
        assert_eq!(facts(&disk, "/quo\"\"te").3, 5);
        assert_eq!(facts(&disk, "/sparse").3, 1 << 32);
        // Seconds beyond 32 bits and nanoseconds: 2100-01-01, and a quarter of a second.
        let late = debugfs(&disk, "stat /late");
        assert!(late.contains("mtime: 0xf4865700:3b9aca01"), "{late}");
        assert_eq!(facts(&disk, "/").1, 0);
    }

    #[tokio::test]
    async fn an_unchanged_folder_is_the_same_disk() {
        let fixture = Fixture::new();
        for name in ["b", "a", "c"] {
            let path = fixture.folder.join(name);
            fs_err::write(&path, name).unwrap();
            // The image has the time of the last access, which making the first one would change (`relatime`).
            let accessed =
                FileTimes::new().set_accessed(SystemTime::now() + Duration::from_secs(60));
            File::open(&path).unwrap().set_times(accessed).unwrap();
        }
        let first = fixture.disk().await;
        let again = fixture.disk().await;
        assert_eq!((&first.path, &first.id), (&again.path, &again.id));

        // Another host makes the same file system.
        let other = Images::open(&fixture.path.join("other"), Arc::new(SilentProgress)).unwrap();
        let other = other.disk_of_folder(&fixture.folder).await.unwrap();
        assert_ne!(other.path, first.path);
        let bytes = |disk: &DiskImage| fs_err::read(&disk.path).unwrap();
        assert!(bytes(&other) == bytes(&first), "the images differ");

        fs_err::write(fixture.folder.join("a"), "changed").unwrap();
        let changed = fixture.disk().await;
        assert_ne!(changed.id, first.id);
        assert_eq!(facts(&changed, "/a").3, 7);
    }

    #[tokio::test]
    async fn owners_may_be_others_than_on_the_host() {
        let fixture = Fixture::new();
        fs_err::create_dir(fixture.folder.join("a b")).unwrap();
        fs_err::write(fixture.folder.join("a b/file"), "x").unwrap();
        let disk = checked(fixture.disk_of(100_000, 1000).await.unwrap());
        for path in ["/", "/a b", "/a b/file"] {
            let (_, uid, gid, _) = facts(&disk, path);
            assert_eq!((uid, gid), (100_000, 1000), "{path}");
        }
        let mapped = fixture.disk().await;
        assert_eq!(facts(&mapped, "/a b/file").1, 0);
        assert_ne!(mapped.id, disk.id);
    }

    #[tokio::test]
    async fn what_cannot_be_a_disk_is_named() {
        let fixture = Fixture::new();
        let absent = fixture.path.join("absent");
        let error = fixture.images.disk_of_folder(&absent).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains(absent.as_str()), "{error}");
        // Its owner cannot be changed without a user namespace.
        fs_err::write(fixture.folder.join("line\nbreak"), "x").unwrap();
        let error = fixture.disk_of(7, 7).await.unwrap_err().to_string();
        assert!(error.contains("line break"), "{error}");
    }

    #[tokio::test]
    async fn a_folder_that_changes_meanwhile_is_named() {
        let fixture = Fixture::new();
        let file = fixture.folder.join("a");
        let changes: [fn(&Utf8Path); 2] = [
            |file| fs_err::remove_file(file).unwrap(),
            |file| fs_err::write(file, "longer than it was").unwrap(),
        ];
        for change in changes {
            fs_err::write(&file, "short").unwrap();
            // Owners are asked for when the folder has been listed, and before it is read.
            let (changed, changing) = (AtomicBool::new(false), file.clone());
            let owners = move |uid, gid| {
                if !changed.swap(true, Ordering::Relaxed) {
                    change(&changing);
                }
                (uid, gid)
            };
            let made = fixture.images.disk_of_folder_with(&fixture.folder, owners);
            let error = made.await.unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "`{}` has changed while a file system was made of it; write to it before, or copy it for the disk",
                    fixture.folder
                )
            );
        }
        fs_err::write(&file, "short").unwrap();
        let disk = fixture.disk().await;
        let entry = disk.path.parent().unwrap();
        let source = ImageSource::read(entry);
        assert_eq!(
            (&*source.kind, &*source.path),
            ("folder", fixture.folder.as_str())
        );
        assert_eq!(ImageSource::read(&fixture.folder), ImageSource::default());
    }
}
