//! An entry's manifest: the files that belong to it, with sizes and checksums.
//!
//! A small file is checked by its checksum at each look-up; a large file only if its modification time
//! differs from the one that it was installed with, since a look-up must not read what its caller may
//! never read. So a file that was written to, truncated or copied badly is detected; one that decayed
//! on its medium is not.

use crate::error::StoreError;
use crate::key::Key;
use camino::Utf8Path;
use rustix::fs::{SeekFrom, seek};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, FileTimes, Metadata};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The manifest's name in its entry.
pub(crate) const NAME: &str = "manifest.json";

/// The layout of the manifest itself.
const VERSION: u32 = 2;

/// A file up to this size is checked by its content at each look-up, bytes.
const MAX_SMALL_FILE: u64 = 64 * 1024;

/// Longest manifest that is read, bytes.
const MAX_MANIFEST_BYTES: u64 = 16 * 1024 * 1024;

/// The unit of a checksum, bytes.
const PAGE: u64 = 4096;

/// How much of a file is read at a time, bytes: whole pages.
const PIECE: usize = 1 << 20;

/// Maximum depth of folders in an entry.
const MAX_DEPTH: usize = 16;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    version: u32,
    pub(crate) key: Key,
    files: BTreeMap<String, FileStamp>,
}

/// What every version of the manifest has.
#[derive(Deserialize)]
struct Header {
    version: u32,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FileStamp {
    size: u64,
    /// Modification time of a large file, nanoseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    changed_ns: Option<u64>,
    /// See [`checksum`]; `None` unless it is a regular file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blake3: Option<String>,
}

impl Manifest {
    /// The manifest of what is in `folder` now.
    pub(crate) fn of(folder: &Utf8Path, key: &Key) -> Result<Self, StoreError> {
        let mut files = BTreeMap::new();
        for (name, metadata) in list(folder)? {
            let large = metadata.is_file() && metadata.len() > MAX_SMALL_FILE;
            let stamp = FileStamp {
                size: metadata.len(),
                changed_ns: if large { changed_ns(&metadata) } else { None },
                blake3: if metadata.is_file() {
                    Some(checksum(&folder.join(&name))?)
                } else {
                    None
                },
            };
            files.insert(name, stamp);
        }
        Ok(Self {
            version: VERSION,
            key: key.clone(),
            files,
        })
    }

    pub(crate) fn write(&self, folder: &Utf8Path) -> Result<(), StoreError> {
        fs_err::write(folder.join(NAME), serde_json::to_vec_pretty(self)?)?;
        Ok(())
    }

    /// Reads the manifest in `folder`, not its files.
    pub(crate) fn read(folder: &Utf8Path) -> Result<Self, String> {
        let path = folder.join(NAME);
        let length = fs_err::metadata(&path)
            .map_err(|_| "it has no manifest".to_owned())?
            .len();
        if length > MAX_MANIFEST_BYTES {
            return Err("its manifest is too long".to_owned());
        }
        let text = fs_err::read(&path).map_err(|error| error.to_string())?;
        let unreadable = |error| format!("its manifest is not readable: {error}");
        let header: Header = serde_json::from_slice(&text).map_err(unreadable)?;
        if header.version != VERSION {
            return Err(format!("its manifest has version {}", header.version));
        }
        serde_json::from_slice(&text).map_err(unreadable)
    }

    /// Checks that the entry in `folder` is complete and is the one of `key`. The error is what is wrong
    /// with it.
    pub(crate) fn check(folder: &Utf8Path, key: &Key) -> Result<(), String> {
        let manifest = Self::read(folder)?;
        if manifest.key != *key {
            return Err(format!("it is the entry of another key, {}", manifest.key));
        }
        let found = list(folder).map_err(|error| error.to_string())?;
        for (name, stamp) in &manifest.files {
            let path = folder.join(name);
            let metadata = found.get(name);
            let metadata = metadata.ok_or_else(|| format!("`{name}` is missing"))?;
            stamp.check(name, &path, metadata)?;
        }
        let unknown = found
            .keys()
            .find(|name| !manifest.files.contains_key(*name));
        unknown.map_or(Ok(()), |name| {
            Err(format!("`{name}` does not belong to it"))
        })
    }
}

impl FileStamp {
    fn check(&self, name: &str, path: &Utf8Path, metadata: &Metadata) -> Result<(), String> {
        let (is, was) = (metadata.len(), self.size);
        if is != was {
            return Err(format!("`{name}` has {is} bytes instead of {was}"));
        }
        if metadata.is_file() != self.blake3.is_some() {
            return Err(format!("`{name}` is a file of another kind"));
        }
        let untouched = self.changed_ns.is_some() && self.changed_ns == changed_ns(metadata);
        let Some(expected) = self.blake3.as_ref().filter(|_| !untouched) else {
            return Ok(());
        };
        let found = checksum(path).map_err(|error| error.to_string())?;
        if found != *expected {
            return Err(format!("`{name}` has changed"));
        }
        if let Some(ns) = self.changed_ns {
            // A good copy: with this time the next look-up does not read it.
            let time = UNIX_EPOCH + Duration::from_nanos(ns);
            let _ = set_changed(path, time);
        }
        Ok(())
    }
}

fn changed_ns(metadata: &Metadata) -> Option<u64> {
    let since = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_nanos()).ok()
}

fn set_changed(path: &Utf8Path, time: SystemTime) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.set_times(FileTimes::new().set_modified(time))
}

/// The BLAKE3 hash, in hex, of the pages that are not zero, each behind its number (u64,
/// little-endian). The holes of a sparse file are not read, and count as the zeros that they are.
fn checksum(path: &Utf8Path) -> io::Result<String> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    while at < length {
        let data = match seek(&file, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let hole = seek(&file, SeekFrom::Hole(data))?;
        // Holes need not end with a page.
        at = data.max(at) / PAGE * PAGE;
        while at < hole {
            let count = usize::try_from(length - at).map_or(PIECE, |left| left.min(PIECE));
            let piece = &mut buffer[..count];
            file.read_exact_at(piece, at)?;
            for (page, number) in piece.chunks(PAGE as usize).zip(at / PAGE..) {
                if page.iter().any(|byte| *byte != 0) {
                    hasher.update(&number.to_le_bytes());
                    hasher.update(page);
                }
            }
            at += count as u64;
        }
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// The contents of `folder` without the manifest, by path. Links are not followed.
fn list(folder: &Utf8Path) -> Result<BTreeMap<String, Metadata>, StoreError> {
    let mut files = BTreeMap::new();
    collect(folder, "", MAX_DEPTH, &mut files)?;
    Ok(files)
}

fn collect(
    folder: &Utf8Path,
    prefix: &str,
    depth: usize,
    files: &mut BTreeMap<String, Metadata>,
) -> Result<(), StoreError> {
    for entry in folder.read_dir_utf8()? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name());
        let metadata = entry.path().symlink_metadata()?;
        if metadata.is_dir() && depth > 0 {
            collect(entry.path(), &format!("{name}/"), depth - 1, files)?;
        } else if name != NAME {
            files.insert(name, metadata);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyBuilder;

    fn folder() -> (tempfile::TempDir, camino::Utf8PathBuf, Key) {
        let folder = tempfile::tempdir().unwrap();
        let path = camino::Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
        (folder, path, KeyBuilder::new("k").finish())
    }

    /// The file format: a change needs a new version.
    #[test]
    fn golden() {
        let (_folder, folder, key) = folder();
        fs_err::write(folder.join("small"), "hello").unwrap();
        fs_err::create_dir(folder.join("sub")).unwrap();
        fs_err::write(
            folder.join("sub/large"),
            vec![7; MAX_SMALL_FILE as usize + 1],
        )
        .unwrap();
        let time = UNIX_EPOCH + Duration::from_nanos(1_700_000_000_000_000_001);
        set_changed(&folder.join("sub/large"), time).unwrap();
        let manifest = Manifest::of(&folder, &key).unwrap();
        manifest.write(&folder).unwrap();
        let text = fs_err::read_to_string(folder.join(NAME)).unwrap();
        let expected = format!(
            r#"{{
  "version": 2,
  "key": "{key}",
  "files": {{
    "small": {{
      "size": 5,
      "blake3": "b45e18b6fe7f542542bbe93840402b6f9286b0a8e147980499c3111ccdbe13dc"
    }},
    "sub/large": {{
      "size": 65537,
      "changed_ns": 1700000000000000001,
      "blake3": "828a3cf7996c1c011d32b4342810b8bd2993b365fdaac3c2d15b22bd432f862b"
    }}
  }}
}}"#
        );
        assert_eq!(text, expected);
        assert_eq!(Manifest::check(&folder, &key), Ok(()));
    }

    #[test]
    fn a_large_file_is_read_only_if_it_was_touched() {
        let (_folder, folder, key) = folder();
        let path = folder.join("ram");
        fs_err::write(&path, vec![7; MAX_SMALL_FILE as usize * 2]).unwrap();
        let installed = fs_err::metadata(&path).unwrap().modified().unwrap();
        Manifest::of(&folder, &key).unwrap().write(&folder).unwrap();
        let flip = |byte: u8| {
            let file = File::options().write(true).open(&path).unwrap();
            file.write_all_at(&[byte], MAX_SMALL_FILE).unwrap();
        };

        flip(8);
        let later = installed + Duration::from_secs(1);
        set_changed(&path, later).unwrap();
        let check = || Manifest::check(&folder, &key);
        assert_eq!(check(), Err("`ram` has changed".to_owned()));
        set_changed(&path, installed).unwrap();
        assert_eq!(check(), Ok(()), "it was not read");

        flip(7);
        set_changed(&path, later).unwrap();
        assert_eq!(check(), Ok(()), "as a copy would be");
        let now = fs_err::metadata(&path).unwrap().modified().unwrap();
        assert_eq!(now, installed, "and need not be read again");
    }

    #[test]
    fn holes_are_zeros() {
        let (_folder, folder, _) = folder();
        let (sparse, dense) = (folder.join("sparse"), folder.join("dense"));
        let length = 5 * PIECE as u64 + 5;
        let file = File::create(&sparse).unwrap();
        file.set_len(length).unwrap();
        let mut bytes = vec![0; length as usize];
        for at in [3, 2 * PIECE as u64 + 4095, length - 1] {
            file.write_all_at(&[1], at).unwrap();
            bytes[at as usize] = 1;
        }
        fs_err::write(&dense, &bytes).unwrap();
        assert_eq!(checksum(&sparse).unwrap(), checksum(&dense).unwrap());
        bytes[3] = 2;
        fs_err::write(&dense, &bytes).unwrap();
        assert_ne!(checksum(&sparse).unwrap(), checksum(&dense).unwrap());
        file.write_all_at(&[0], 3).unwrap();
        file.write_all_at(&[1], 4096 + 3).unwrap();
        bytes[3] = 1;
        fs_err::write(&dense, &bytes).unwrap();
        assert_ne!(
            checksum(&sparse).unwrap(),
            checksum(&dense).unwrap(),
            "elsewhere"
        );
    }
}
