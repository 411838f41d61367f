//! An entry's manifest: which files belong to it, and how they can be told from damaged ones.
//!
//! A small file is known by its checksum, a large one by its size: a look-up must not read what its
//! caller may never read.

use crate::error::StoreError;
use crate::key::Key;
use camino::Utf8Path;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The manifest's name in its entry.
pub(crate) const NAME: &str = "manifest.json";

/// The layout of the manifest itself.
const VERSION: u32 = 1;

/// A file up to this size is checked by its content, bytes.
const SMALL: u64 = 64 * 1024;

/// Longest manifest that is read, bytes.
const LONGEST: u64 = 16 * 1024 * 1024;

/// Folders in folders up to here; more cannot be ours.
const DEEPEST: usize = 16;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    version: u32,
    key: Key,
    files: BTreeMap<String, FileFacts>,
}

/// What every version of the manifest has.
#[derive(Deserialize)]
struct Header {
    version: u32,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FileFacts {
    size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blake3: Option<String>,
}

impl Manifest {
    /// The manifest of what is in `folder` now.
    pub(crate) fn of(folder: &Utf8Path, key: &Key) -> Result<Self, StoreError> {
        let mut files = BTreeMap::new();
        collect(folder, "", DEEPEST, &mut files)?;
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

    /// Whether the entry in `folder` is whole and is the one of `key`; else what is wrong with it.
    pub(crate) fn check(folder: &Utf8Path, key: &Key) -> Result<(), String> {
        let path = folder.join(NAME);
        let length = fs_err::metadata(&path)
            .map_err(|_| "it has no manifest".to_owned())?
            .len();
        if length > LONGEST {
            return Err("its manifest is too long".to_owned());
        }
        let text = fs_err::read(&path).map_err(|error| error.to_string())?;
        let unreadable = |error| format!("its manifest is not readable: {error}");
        let header: Header = serde_json::from_slice(&text).map_err(unreadable)?;
        if header.version != VERSION {
            return Err(format!("its manifest has version {}", header.version));
        }
        let manifest: Self = serde_json::from_slice(&text).map_err(unreadable)?;
        if manifest.key != *key {
            return Err(format!("it is the entry of another key, {}", manifest.key));
        }
        let found = Self::of(folder, key).map_err(|error| error.to_string())?;
        manifest.first_difference(&found).map_or(Ok(()), Err)
    }

    fn first_difference(&self, found: &Self) -> Option<String> {
        for (name, facts) in &self.files {
            match found.files.get(name) {
                None => return Some(format!("`{name}` is missing")),
                Some(other) if other.size != facts.size => {
                    let (is, was) = (other.size, facts.size);
                    return Some(format!("`{name}` has {is} bytes instead of {was}"));
                }
                Some(other) if other != facts => return Some(format!("`{name}` has changed")),
                Some(_) => (),
            }
        }
        let stranger = found
            .files
            .keys()
            .find(|name| !self.files.contains_key(*name));
        stranger.map(|name| format!("`{name}` does not belong to it"))
    }
}

fn collect(
    folder: &Utf8Path,
    prefix: &str,
    depth: usize,
    files: &mut BTreeMap<String, FileFacts>,
) -> Result<(), StoreError> {
    for entry in folder.read_dir_utf8()? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name());
        // Not followed: a link counts as what it is.
        let metadata = entry.path().symlink_metadata()?;
        if metadata.is_dir() && depth > 0 {
            collect(entry.path(), &format!("{name}/"), depth - 1, files)?;
        } else if name != NAME {
            let small = metadata.is_file() && metadata.len() <= SMALL;
            let blake3 = if small {
                Some(
                    blake3::hash(&fs_err::read(entry.path())?)
                        .to_hex()
                        .to_string(),
                )
            } else {
                None
            };
            files.insert(
                name,
                FileFacts {
                    size: metadata.len(),
                    blake3,
                },
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyBuilder;

    /// The file format: a change needs a new version.
    #[test]
    fn golden() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        fs_err::write(folder.join("small"), "hello").unwrap();
        fs_err::create_dir(folder.join("sub")).unwrap();
        fs_err::write(folder.join("sub/large"), vec![7; SMALL as usize + 1]).unwrap();
        let key = KeyBuilder::new("k").finish();
        let manifest = Manifest::of(folder, &key).unwrap();
        manifest.write(folder).unwrap();
        let text = fs_err::read_to_string(folder.join(NAME)).unwrap();
        let expected = format!(
            r#"{{
  "version": 1,
  "key": "{key}",
  "files": {{
    "small": {{
      "size": 5,
      "blake3": "ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f"
    }},
    "sub/large": {{
      "size": 65537
    }}
  }}
}}"#
        );
        assert_eq!(text, expected);
        assert_eq!(Manifest::check(folder, &key), Ok(()));
    }
}
