//! A root file system in a tar archive.
//!
//! The archive keeps owners, modes and device numbers that an ordinary user's folder cannot have. Its files are
//! unpacked into a folder, from which the file system is made, and what the folder lacks is added to that.
//!
//! Nothing of the archive becomes a path of the host before its links are followed inside of the tree: contents get
//! numbers as their names first, and the folder is made from the finished tree.

use super::ext4::Attributes;
use crate::compress::Format;
use crate::error::ImageError;
use crate::node::{Content, Kind};
use crate::tar_entry::{TarError, node_of};
use crate::tree::Tree;
use camino::Utf8Path;
use provium_store::StoreError;
use rustix::fs::{AtFlags, CWD, Mode, Timespec, Timestamps};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::Permissions;
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// Where PAX archives have extended attributes: what GNU tar and bsdtar write.
const ATTRIBUTE: &str = "SCHILY.xattr.";

/// First bytes of an archive that are looked at for its compression.
const MAGIC_BYTES: u64 = 8;

/// The content of an archive. Files' contents are in a folder of their own.
#[derive(Debug, Default)]
pub(super) struct UnpackedArchive {
    pub(super) tree: Tree,
    pub(super) attributes: Attributes,
    /// Modification times, seconds since 1970.
    times: BTreeMap<Vec<u8>, i64>,
}

/// Reads the archive; contents are put into `contents`, an empty folder.
///
/// # Errors
/// [`ImageError::NotADisk`] if it is damaged or not an archive.
pub(super) fn unpack(
    archive: &Utf8Path,
    contents: &Utf8Path,
) -> Result<UnpackedArchive, ImageError> {
    let bad = |why: String| ImageError::NotADisk {
        path: archive.to_owned(),
        why,
    };
    let read = |error: io::Error| bad(format!("cannot read it as a tar archive: {error}"));
    let open = || {
        std::fs::File::open(archive).map_err(|source| ImageError::Read {
            path: archive.to_owned(),
            source,
        })
    };
    let mut magic = Vec::new();
    open()?
        .take(MAGIC_BYTES)
        .read_to_end(&mut magic)
        .map_err(read)?;
    let file = BufReader::with_capacity(1 << 20, open()?);
    let reader: Box<dyn Read> = match Format::detect(&magic) {
        Some(format) => format.reader(file).map_err(read)?,
        None => Box::new(file),
    };
    let mut unpacked = UnpackedArchive::default();
    unpacked.tree.add_root(0o755);
    let mut archive = tar::Archive::new(reader);
    for (number, entry) in archive.entries().map_err(read)?.enumerate() {
        let entry = entry.map_err(read)?;
        let added = unpacked.add(entry, || contents.join(number.to_string()).into());
        added.map_err(|error| match error {
            TarError::Read(error) => read(error),
            TarError::Invalid(why) => bad(why),
            TarError::Tree(error) => error,
        })?;
    }
    Ok(unpacked)
}

impl UnpackedArchive {
    /// A tree in memory.
    pub(super) fn of(tree: Tree) -> Self {
        Self {
            tree,
            ..Self::default()
        }
    }

    fn add(
        &mut self,
        mut entry: tar::Entry<'_, impl Read>,
        content: impl FnOnce() -> PathBuf,
    ) -> Result<(), TarError> {
        let seconds = i64::try_from(entry.header().mtime()?).unwrap_or(i64::MAX);
        let node = node_of(&mut entry, &self.tree, |entry| {
            let path = content();
            let mut file = fs_err::File::create(&path)?;
            Ok(Content::OnDisk {
                len: io::copy(entry, &mut file)?,
                path,
                shared: None,
            })
        })?;
        let Some((path, node)) = node else {
            return Ok(());
        };
        let attributes = attributes(&mut entry)?;
        if path
            .split(|byte| *byte == b'/')
            .all(|name| name.is_empty() || name == b".")
        {
            self.tree.add_root(node.perm);
            return Ok(());
        }
        self.tree.put(&path, node)?;
        // Links above it are followed.
        if let Some((_, path)) = self.tree.locate(&path)? {
            self.times.insert(path.clone(), seconds);
            self.attributes.remove(&path);
            if !attributes.is_empty() {
                self.attributes.insert(path, attributes);
            }
        }
        Ok(())
    }

    /// Makes the folder, which must not exist, of what an ordinary user can make. Contents are moved into it.
    ///
    /// # Errors
    /// [`ImageError::NotADisk`] with the path of the `archive` if that is not a sound tree.
    pub(super) fn make_folder(
        &self,
        folder: &Utf8Path,
        archive: &Utf8Path,
    ) -> Result<(), ImageError> {
        self.make(folder).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => ImageError::NotADisk {
                path: archive.to_owned(),
                why: error.to_string(),
            },
            _ => StoreError::from(error).into(),
        })
    }

    fn make(&self, folder: &Utf8Path) -> io::Result<()> {
        // Of a file with several names, the first one that was made.
        let mut made: BTreeMap<&Path, PathBuf> = BTreeMap::new();
        let mut folders = BTreeSet::new();
        for (path, node) in self.tree.iter() {
            let place = placed(folder, path);
            // What was put below a folder that a link replaced later would be put elsewhere on the host.
            if !folders.contains(above(path)) && path != b"." {
                let path = String::from_utf8_lossy(path);
                let why = format!("`{path}` is below something that is not a folder");
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            match &node.kind {
                Kind::Directory => {
                    folders.insert(if path == b"." { &b""[..] } else { path });
                    fs_err::create_dir_all(&place)?;
                    fs_err::set_permissions(&place, Permissions::from_mode(node.perm | 0o700))?;
                    continue;
                }
                Kind::File(Content::OnDisk { path: content, .. }) => {
                    match made.get(content.as_path()) {
                        Some(first) => fs_err::hard_link(first, &place)?,
                        None => {
                            fs_err::rename(content, &place)?;
                            made.insert(content, place.clone());
                        }
                    }
                    fs_err::set_permissions(&place, Permissions::from_mode(node.perm | 0o400))?;
                }
                Kind::File(Content::Bytes(bytes)) => {
                    fs_err::write(&place, bytes.as_slice())?;
                    fs_err::set_permissions(&place, Permissions::from_mode(node.perm | 0o400))?;
                }
                Kind::Symlink(target) => symlink(OsStr::from_bytes(target), &place)?,
                Kind::Fifo => {
                    let mode = Mode::from_raw_mode(node.perm);
                    rustix::fs::mknodat(CWD, &place, rustix::fs::FileType::Fifo, mode, 0)?;
                    fs_err::set_permissions(&place, Permissions::from_mode(node.perm))?;
                }
                Kind::Device { .. } => continue,
            }
            self.set_time(path, &place)?;
        }
        // A folder's time changes when something is put into it.
        let folders = self
            .tree
            .iter()
            .filter(|(_, node)| node.kind == Kind::Directory);
        for (path, _) in folders {
            self.set_time(path, &placed(folder, path))?;
        }
        Ok(())
    }

    fn set_time(&self, path: &[u8], place: &Path) -> io::Result<()> {
        let Some(seconds) = self.times.get(path) else {
            return Ok(());
        };
        let time = Timespec {
            tv_sec: *seconds,
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::utimensat(CWD, place, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }
}

/// The path on the host of a path in the tree.
fn placed(folder: &Utf8Path, path: &[u8]) -> PathBuf {
    match path {
        b"." => folder.as_std_path().to_owned(),
        path => folder.as_std_path().join(OsStr::from_bytes(path)),
    }
}

/// The path of the folder that a path is in; empty for the root.
fn above(path: &[u8]) -> &[u8] {
    let slash = path.iter().rposition(|byte| *byte == b'/');
    slash.map_or(&[], |at| &path[..at])
}

/// The extended attributes of an entry.
fn attributes(entry: &mut tar::Entry<'_, impl Read>) -> Result<Vec<(String, Vec<u8>)>, TarError> {
    let mut found = Vec::new();
    for extension in entry.pax_extensions()?.into_iter().flatten() {
        let extension = extension?;
        let name = extension
            .key()
            .ok()
            .and_then(|key| key.strip_prefix(ATTRIBUTE));
        if let Some(name) = name.filter(|name| !name.contains([' ', '\n', '"'])) {
            found.push((name.to_owned(), extension.value_bytes().to_vec()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tar::EntryType;

    /// An archive of a folder with a file in it, which is replaced by a link to `target`.
    fn replaced(target: &str) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut add = |name: &str, kind, link: Option<&str>| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(0o755);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(0);
            match link {
                Some(target) => tar.append_link(&mut header, name, target).unwrap(),
                None => tar.append_data(&mut header, name, io::empty()).unwrap(),
            }
        };
        add("a", EntryType::Directory, None);
        add("a/file", EntryType::Regular, None);
        add("a", EntryType::Symlink, Some(target));
        tar.into_inner().unwrap()
    }

    #[test]
    fn nothing_is_put_outside_of_the_folder() {
        let temporary = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(temporary.path()).unwrap();
        for name in ["outside", "contents"] {
            fs_err::create_dir(path.join(name)).unwrap();
        }
        let archive = path.join("archive.tar");
        fs_err::write(&archive, replaced(path.join("outside").as_str())).unwrap();
        let unpacked = unpack(&archive, &path.join("contents")).unwrap();
        let error = unpacked.make(&path.join("root")).unwrap_err().to_string();
        assert!(error.contains("`a/file`"), "{error}");
        assert_eq!(fs_err::read_dir(path.join("outside")).unwrap().count(), 0);
    }
}
