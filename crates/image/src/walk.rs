//! A folder of the host, read as a tree.

use crate::error::ImageError;
use crate::node::{Content, Kind, Node};
use crate::tree::Tree;
use camino::Utf8Path;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Whether a path (relative to the root) is wanted; the second argument says whether it is a regular file.
type PathFilter<'a> = &'a dyn Fn(&[u8], bool) -> bool;

/// The tree below `folder`, with the owners that it has on the host. Folders in `empty` are taken without what is
/// in them. Sockets are left out.
///
/// # Errors
/// [`ImageError::Read`] for what cannot be read, also for the content of a file.
pub(crate) fn walk(
    folder: &Utf8Path,
    empty: &BTreeSet<PathBuf>,
    is_wanted: PathFilter<'_>,
) -> Result<Tree, ImageError> {
    let mut walk = Walk {
        tree: Tree::default(),
        empty,
        is_wanted,
    };
    let failed = |source| read_error(folder.as_std_path(), source);
    walk.tree
        .add_root(folder.metadata().map_err(failed)?.mode() & 0o7777);
    walk.folder(folder.as_std_path(), Vec::new())?;
    Ok(walk.tree)
}

struct Walk<'a> {
    tree: Tree,
    empty: &'a BTreeSet<PathBuf>,
    is_wanted: PathFilter<'a>,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Path, below: Vec<u8>) -> Result<(), ImageError> {
        let failed = |source| read_error(folder, source);
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            let metadata = entry
                .metadata()
                .map_err(|source| read_error(&path, source))?;
            let name = join(&below, &entry.file_name());
            let Some(kind) = kind(&path, &metadata).map_err(|source| read_error(&path, source))?
            else {
                continue;
            };
            if !(self.is_wanted)(&name, metadata.is_file()) {
                continue;
            }
            let node = Node {
                perm: metadata.mode() & 0o7777,
                uid: metadata.uid(),
                gid: metadata.gid(),
                kind,
            };
            self.tree.add(name.clone(), node);
            if metadata.is_dir() && !self.empty.contains(&path) {
                self.folder(&path, name)?;
            }
        }
        Ok(())
    }
}

/// `None` for what only a running system has.
fn kind(path: &Path, metadata: &Metadata) -> io::Result<Option<Kind>> {
    let kind = metadata.file_type();
    let device = |block| {
        let number = metadata.rdev();
        Kind::Device {
            block,
            major: rustix::fs::major(number),
            minor: rustix::fs::minor(number),
        }
    };
    Ok(Some(if kind.is_dir() {
        Kind::Directory
    } else if kind.is_symlink() {
        Kind::Symlink(std::fs::read_link(path)?.as_os_str().as_bytes().to_vec())
    } else if kind.is_file() {
        // Opened now, so that an unreadable file is an error before anything is written.
        std::fs::File::open(path)?;
        let shared = (metadata.nlink() > 1).then(|| (metadata.dev(), metadata.ino()));
        Kind::File(Content::OnDisk {
            path: path.to_owned(),
            len: metadata.len(),
            shared,
        })
    } else if kind.is_block_device() {
        device(true)
    } else if kind.is_char_device() {
        device(false)
    } else if kind.is_fifo() {
        Kind::Fifo
    } else {
        return Ok(None);
    }))
}

/// Who runs this, unless it is root: root's files keep their owners.
pub(crate) fn user() -> (u32, u32) {
    let user = rustix::process::geteuid().as_raw();
    if user == 0 {
        (0, 0)
    } else {
        (user, rustix::process::getegid().as_raw())
    }
}

/// The owner in the guest of what belongs to `id` on the host, whose user is `own`.
pub(crate) fn owner(id: u32, own: u32) -> u32 {
    if id == own { 0 } else { id }
}

pub(crate) fn read_error(path: &Path, source: io::Error) -> ImageError {
    ImageError::Read {
        path: path.to_string_lossy().into_owned().into(),
        source,
    }
}

fn join(below: &[u8], name: &OsStr) -> Vec<u8> {
    if below.is_empty() {
        name.as_bytes().to_vec()
    } else {
        [below, b"/", name.as_bytes()].concat()
    }
}
