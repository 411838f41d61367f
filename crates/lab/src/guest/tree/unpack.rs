//! Records as a directory of the host.
//!
//! The guest is not trusted. A record names one component of a path, and every directory is opened below
//! its parent without following a symbolic link, so nothing is written outside of the directory that the
//! test has named, whatever the records say and whatever is there already. Set-user-id and set-group-id
//! bits are dropped: they would make a program of the guest run as the user of the host.
//!
//! What is in the way is replaced, but for directories: what they contain is merged, and they keep their
//! permission bits and time.

use super::outcome::{HostError, TreeSummary};
use provium_protocol::tree::{FileTime, Metadata, TreeDecoder, TreeError, TreeRecord};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);
const NEW_FILE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// The permission bits that are kept.
const KEPT: u32 = 0o1777;

/// Why unpacking ended early.
pub(super) enum UnpackError {
    /// The host refused.
    Host(HostError),
    /// The records are not a tree.
    Tree(TreeError),
}

impl From<TreeError> for UnpackError {
    fn from(error: TreeError) -> Self {
        Self::Tree(error)
    }
}

/// Creates a directory with what the records say. Blocks. The directory is opened when the first records
/// come, so it is not created if there are none.
pub(super) fn unpack(
    path: &Path,
    mut records: mpsc::Receiver<Vec<u8>>,
) -> Result<TreeSummary, UnpackError> {
    let mut decoder = TreeDecoder::new();
    let mut unpacker = None;
    while let Some(piece) = records.blocking_recv() {
        let unpacker = match &mut unpacker {
            Some(unpacker) => unpacker,
            none => none.insert(Unpacker::open(path)?),
        };
        decoder.push(&piece);
        while let Some(record) = decoder.next_record()? {
            unpacker.apply(&record)?;
        }
    }
    match unpacker {
        Some(unpacker) if decoder.is_complete() => Ok(unpacker.summary),
        _ => Err(TreeError::Incomplete.into()),
    }
}

struct Folder {
    fd: OwnedFd,
    is_new: bool,
}

/// A file that is being written.
struct File {
    fd: OwnedFd,
    path: PathBuf,
    metadata: Metadata,
    size: u64,
}

struct Unpacker {
    /// From the tree's directory to the current one.
    folders: Vec<Folder>,
    root: PathBuf,
    /// Path of the current directory, for messages.
    path: PathBuf,
    file: Option<File>,
    summary: TreeSummary,
}

impl Unpacker {
    fn open(path: &Path) -> Result<Self, UnpackError> {
        let failed = |tried, source| {
            UnpackError::Host(HostError {
                tried,
                path: path.to_string_lossy().into_owned(),
                source,
            })
        };
        let is_new = !path.exists();
        fs::create_dir_all(path).map_err(|error| failed("create", error))?;
        let fd = rustix::fs::open(path, FOLDER, Mode::empty());
        let fd = fd.map_err(|errno| failed("open", errno.into()))?;
        Ok(Self {
            folders: vec![Folder { fd, is_new }],
            root: path.to_owned(),
            path: path.to_owned(),
            file: None,
            summary: TreeSummary::default(),
        })
    }

    fn folder(&self) -> Result<BorrowedFd<'_>, UnpackError> {
        let current = self.folders.last().map(|folder| folder.fd.as_fd());
        Ok(current.ok_or(TreeError::Malformed)?)
    }

    fn named(&self, name: &CStr) -> PathBuf {
        self.path.join(std::ffi::OsStr::from_bytes(name.to_bytes()))
    }

    fn apply(&mut self, record: &TreeRecord<'_>) -> Result<(), UnpackError> {
        if !matches!(record, TreeRecord::Data { .. }) {
            self.end_file()?;
        }
        match record {
            TreeRecord::Enter(name) => self.enter(name),
            TreeRecord::Leave(metadata) => {
                self.end_folder(*metadata)?;
                self.path.pop();
                Ok(())
            }
            TreeRecord::End(metadata) => self.end_folder(*metadata),
            TreeRecord::Data { offset, bytes } => self.data(*offset, bytes),
            TreeRecord::File {
                name,
                metadata,
                size,
            } => {
                let (folder, path) = (self.folder()?, self.named(name));
                let mode = Mode::RUSR | Mode::WUSR;
                let fd = replace(folder, name, || {
                    rustix::fs::openat(folder, *name, NEW_FILE, mode)
                });
                let fd = fd.map_err(|errno| failed("create", &path, errno))?;
                self.summary.files += 1;
                self.file = Some(File {
                    fd,
                    path,
                    metadata: *metadata,
                    size: *size,
                });
                Ok(())
            }
            TreeRecord::Symlink {
                name,
                target,
                mtime,
            } => {
                let folder = self.folder()?;
                let times = times(*mtime);
                replace(folder, name, || {
                    rustix::fs::symlinkat(*target, folder, *name)
                })
                .and_then(|()| {
                    rustix::fs::utimensat(folder, *name, &times, AtFlags::SYMLINK_NOFOLLOW)
                })
                .map_err(|errno| failed("create", &self.named(name), errno))?;
                self.summary.links += 1;
                Ok(())
            }
            TreeRecord::Skipped { name, .. } => {
                let path = self.named(name);
                let below = path.strip_prefix(&self.root).unwrap_or(&path);
                let below = below.as_os_str().as_bytes().to_owned();
                self.summary.skipped.push(below);
                Ok(())
            }
        }
    }

    fn enter(&mut self, name: &CStr) -> Result<(), UnpackError> {
        let (folder, path) = (self.folder()?, self.named(name));
        let is_new = match rustix::fs::mkdirat(folder, name, Mode::RWXU) {
            Err(Errno::EXIST) => false,
            made => made
                .map(|()| true)
                .map_err(|errno| failed("create", &path, errno))?,
        };
        let fd = rustix::fs::openat(folder, name, FOLDER | OFlags::NOFOLLOW, Mode::empty());
        let fd = fd.map_err(|errno| failed("enter the directory", &path, errno))?;
        self.summary.directories += 1;
        self.folders.push(Folder { fd, is_new });
        self.path = path;
        Ok(())
    }

    fn end_folder(&mut self, metadata: Metadata) -> Result<(), UnpackError> {
        match self.folders.pop() {
            Some(Folder { fd, is_new: true }) => set_metadata(&fd, metadata)
                .map_err(|errno| failed("set the metadata of", &self.path, errno)),
            _ => Ok(()),
        }
    }

    fn data(&mut self, mut offset: u64, bytes: &[u8]) -> Result<(), UnpackError> {
        let file = self.file.as_ref().ok_or(TreeError::Malformed)?;
        self.summary.bytes += bytes.len() as u64;
        let mut rest = bytes;
        while !rest.is_empty() {
            match rustix::io::pwrite(&file.fd, rest, offset) {
                Err(Errno::INTR) => {}
                Ok(0) => return Err(failed("write", &file.path, Errno::IO)),
                Ok(put) => {
                    rest = &rest[put..];
                    offset = offset.saturating_add(put as u64);
                }
                Err(errno) => return Err(failed("write", &file.path, errno)),
            }
        }
        Ok(())
    }

    fn end_file(&mut self) -> Result<(), UnpackError> {
        let Some(file) = self.file.take() else {
            return Ok(());
        };
        rustix::fs::ftruncate(&file.fd, file.size)
            .map_err(|errno| failed("set the size of", &file.path, errno))?;
        set_metadata(&file.fd, file.metadata)
            .map_err(|errno| failed("set the metadata of", &file.path, errno))
    }
}

fn failed(tried: &'static str, path: &Path, errno: Errno) -> UnpackError {
    UnpackError::Host(HostError {
        tried,
        path: path.to_string_lossy().into_owned(),
        source: io::Error::from(errno),
    })
}

fn times(mtime: FileTime) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: mtime.seconds,
            tv_nsec: mtime.nanoseconds.into(),
        },
    }
}

fn set_metadata(fd: &OwnedFd, metadata: Metadata) -> rustix::io::Result<()> {
    rustix::fs::fchmod(fd, Mode::from_raw_mode(metadata.perm & KEPT))?;
    rustix::fs::futimens(fd, &times(metadata.mtime))
}

/// Makes something, and if something else has its name, once more after that was deleted.
fn replace<T>(
    folder: BorrowedFd<'_>,
    name: &CStr,
    make: impl Fn() -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    match make() {
        Err(Errno::EXIST) => {}
        made => return made,
    }
    let found = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    rustix::fs::unlinkat(folder, name, AtFlags::empty())?;
    make()
}

#[cfg(test)]
mod tests {
    use super::super::pack::pack;
    use super::*;
    use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};

    const METADATA: Metadata = Metadata {
        perm: 0o644,
        mtime: FileTime {
            seconds: 1_000_000_000,
            nanoseconds: 7,
        },
    };

    fn file(name: &CStr) -> TreeRecord<'_> {
        TreeRecord::File {
            name,
            metadata: METADATA,
            size: 3,
        }
    }

    const ABC: TreeRecord<'_> = TreeRecord::Data {
        offset: 0,
        bytes: b"abc",
    };

    fn unpacked(path: &Path, records: &[TreeRecord<'_>]) -> Result<TreeSummary, String> {
        let mut bytes = Vec::new();
        for record in records {
            record.encode(&mut bytes);
        }
        let (sender, receiver) = mpsc::channel(1);
        sender.blocking_send(bytes).unwrap();
        drop(sender);
        unpack(path, receiver).map_err(|error| match error {
            UnpackError::Host(error) => format!("{error}: {}", error.source),
            UnpackError::Tree(error) => error.to_string(),
        })
    }

    #[test]
    fn a_directory_is_the_same_after_it_was_packed_and_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to/new"));
        fs::create_dir_all(from.join("dir/empty")).unwrap();
        fs::write(from.join("dir/small"), "content").unwrap();
        fs::set_permissions(from.join("dir/small"), fs::Permissions::from_mode(0o4751)).unwrap();
        let sparse = fs::File::create(from.join("sparse")).unwrap();
        sparse.set_len(64 << 20).unwrap();
        sparse.write_at(b"middle", 32 << 20).unwrap();
        symlink("dir/small", from.join("link")).unwrap();
        symlink("/nonexistent", from.join("dangling")).unwrap();
        fs::set_permissions(from.join("dir"), fs::Permissions::from_mode(0o550)).unwrap();

        let (sender, receiver) = mpsc::channel(1000);
        let Ok(sent) = pack(&from, &sender) else {
            panic!("it can be read");
        };
        drop(sender);
        let Ok(got) = unpack(&to, receiver) else {
            panic!("it can be written");
        };
        assert_eq!(sent, got);
        assert_eq!((got.files, got.directories, got.links), (2, 2, 2));
        assert!(got.bytes < 1 << 20, "{}", got.bytes);
        for path in ["dir", "dir/empty", "dir/small", "sparse"] {
            let [was, is] = [&from, &to].map(|root| fs::metadata(root.join(path)).unwrap());
            // Without the bit that gives the rights of its owner.
            assert_eq!(is.mode() & 0o7777, was.mode() & 0o1777, "{path}");
            assert_eq!(
                (is.mtime(), is.mtime_nsec()),
                (was.mtime(), was.mtime_nsec())
            );
        }
        let [was, is] = [&from, &to].map(|root| fs::symlink_metadata(root.join("link")).unwrap());
        assert_eq!(
            (is.mtime(), is.mtime_nsec()),
            (was.mtime(), was.mtime_nsec())
        );
        assert_eq!(
            fs::read_link(to.join("dangling")).unwrap(),
            Path::new("/nonexistent")
        );
        assert_eq!(fs::read(to.join("link")).unwrap(), b"content");
        let sparse = fs::metadata(to.join("sparse")).unwrap();
        assert_eq!(sparse.len(), 64 << 20);
        assert!(sparse.blocks() * 512 < 1 << 20, "{}", sparse.blocks());
        assert!(fs::read(to.join("sparse")).unwrap() == fs::read(from.join("sparse")).unwrap());
        for root in [&from, &to] {
            fs::set_permissions(root.join("dir"), fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    #[test]
    fn nothing_is_written_outside_of_the_directory() {
        let folder = tempfile::tempdir().unwrap();
        let (outside, inside) = (folder.path().join("outside"), folder.path().join("inside"));
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "untouched").unwrap();
        let target = std::ffi::CString::new(outside.as_os_str().as_bytes()).unwrap();
        let link = |name| TreeRecord::Symlink {
            name,
            target: &target,
            mtime: METADATA.mtime,
        };
        let end = TreeRecord::End(METADATA);
        // Through a link that the tree itself has made.
        let through = [link(c"way"), TreeRecord::Enter(c"way"), file(c"file"), ABC];
        let error = unpacked(&inside, &through).unwrap_err();
        assert!(error.contains("inside/way` on the host"), "{error}");
        // Through one that was there, as a directory, as a file, and as a link.
        for record in [file(c"way"), link(c"way")] {
            unpacked(&inside, &[link(c"way"), end]).unwrap();
            unpacked(&inside, &[record, end]).unwrap();
        }
        symlink(outside.join("file"), inside.join("to_file")).unwrap();
        unpacked(&inside, &[file(c"to_file"), ABC, end]).unwrap();
        assert_eq!(fs::read(inside.join("to_file")).unwrap(), b"abc");
        // By a name.
        for name in [c"..", c"../outside", c"/etc"] {
            let records = [TreeRecord::Enter(name), file(c"file"), ABC];
            let error = unpacked(&inside, &records).unwrap_err();
            assert_eq!(error, TreeError::Name.to_string());
        }
        // Above its start.
        let leave = TreeRecord::Leave(METADATA);
        let error = unpacked(&inside, &[leave, file(c"file"), ABC]).unwrap_err();
        assert_eq!(error, TreeError::Malformed.to_string());
        let error = unpacked(&inside, &[end, file(c"file"), ABC]).unwrap_err();
        assert_eq!(error, TreeError::Malformed.to_string());

        let found: Vec<_> = fs::read_dir(&outside).unwrap().collect();
        assert_eq!(found.len(), 1);
        assert_eq!(fs::read(outside.join("file")).unwrap(), b"untouched");
    }

    #[test]
    fn what_is_there_is_merged_and_special_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dir");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(folder.path().join("kept"), "kept").unwrap();
        let records = [
            TreeRecord::Enter(c"dir"),
            TreeRecord::Skipped {
                name: c"socket",
                entry_type: provium_protocol::message::EntryType::Socket,
            },
            file(c"new"),
            ABC,
            TreeRecord::Leave(METADATA),
            TreeRecord::End(METADATA),
        ];
        let summary = unpacked(folder.path(), &records).unwrap();
        assert_eq!(summary.skipped, [b"dir/socket".to_vec()]);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
        assert_eq!(fs::read(path.join("new")).unwrap(), b"abc");
        let over = [file(c"dir"), TreeRecord::End(METADATA)];
        let error = unpacked(folder.path(), &over).unwrap_err();
        assert!(
            error.starts_with("cannot create `") && error.contains("Is a directory"),
            "{error}"
        );
        let error = unpacked(folder.path(), &[TreeRecord::Enter(c"dir")]).unwrap_err();
        assert_eq!(error, TreeError::Incomplete.to_string());
    }

    #[test]
    fn a_directory_that_cannot_be_read_is_named() {
        let (sender, _receiver) = mpsc::channel(1);
        let Err(super::super::pack::PackError::Failed(error)) =
            pack(Path::new("/nonexistent/dir"), &sender)
        else {
            panic!("it does not exist");
        };
        assert_eq!(
            error.to_string(),
            "cannot read `/nonexistent/dir` on the host"
        );
    }
}
