//! Entries of tar archives, as nodes of a tree.

use crate::error::ImageError;
use crate::node::{Content, Kind, Node};
use crate::tree::Tree;
use std::io::{self, Read};
use tar::{Entry, EntryType};

/// Why an entry cannot become a node.
pub(crate) enum TarError {
    /// The archive is damaged, or the host cannot read it.
    Read(io::Error),
    /// The entry has no meaning.
    Invalid(String),
    /// The tree cannot have it.
    Tree(ImageError),
}

impl From<io::Error> for TarError {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

impl From<ImageError> for TarError {
    fn from(error: ImageError) -> Self {
        Self::Tree(error)
    }
}

/// The path and the node of an entry; `None` if it describes the archive itself. `read` reads the content of a file.
/// The target of a hard link is looked up in `tree`, which has the entries before.
pub(crate) fn node_of<R: Read>(
    entry: &mut Entry<'_, R>,
    tree: &Tree,
    read: impl FnOnce(&mut Entry<'_, R>) -> Result<Content, TarError>,
) -> Result<Option<(Vec<u8>, Node)>, TarError> {
    let path = entry.path_bytes().into_owned();
    let shown = String::from_utf8_lossy(&path).into_owned();
    let invalid = |why: &str| TarError::Invalid(format!("`{shown}` {why}"));
    let header = entry.header();
    let perm = header.mode()? & 0o7777;
    let id = |id: u64| u32::try_from(id).map_err(|_| invalid("has an owner of a too large number"));
    let (uid, gid) = (id(header.uid()?)?, id(header.gid()?)?);
    let target = || {
        let target = entry.link_name_bytes();
        target.ok_or_else(|| invalid("is a link without a target"))
    };
    let kind = match header.entry_type() {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            Kind::File(read(entry)?)
        }
        EntryType::Link => {
            let target = target()?;
            match tree.get(&target).map(|node| &node.kind) {
                Some(kind @ Kind::File(_)) => kind.clone(),
                _ => {
                    let target = String::from_utf8_lossy(&target);
                    let why = format!("is a link to `{target}`, which is not a file");
                    return Err(invalid(&why));
                }
            }
        }
        EntryType::Symlink => Kind::Symlink(target()?.into_owned()),
        EntryType::Directory => Kind::Directory,
        device @ (EntryType::Char | EntryType::Block) => {
            // In entries of other types these fields may be blank.
            let (Some(major), Some(minor)) = (header.device_major()?, header.device_minor()?)
            else {
                return Err(invalid("is a device without numbers"));
            };
            Kind::Device {
                block: device == EntryType::Block,
                major,
                minor,
            }
        }
        EntryType::Fifo => Kind::Fifo,
        EntryType::XGlobalHeader => return Ok(None),
        other => return Err(invalid(&format!("has the unknown type {other:?}"))),
    };
    let node = Node {
        perm,
        uid,
        gid,
        kind,
    };
    Ok(Some((path, node)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tar::Header;

    fn header(kind: EntryType) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_path("name").unwrap();
        header.set_mode(0o640);
        header.set_uid(1000);
        header.set_gid(100);
        header.set_size(0);
        header
    }

    /// The node of an archive's first entry.
    fn first(mut header: Header) -> Result<Option<(Vec<u8>, Node)>, String> {
        header.set_cksum();
        let mut builder = tar::Builder::new(Vec::new());
        builder.append(&header, io::empty()).unwrap();
        let bytes = builder.into_inner().unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        let empty = |_: &mut Entry<'_, _>| Ok(Content::Bytes(Arc::default()));
        node_of(&mut entry, &Tree::default(), empty).map_err(|error| match error {
            TarError::Read(error) => error.to_string(),
            TarError::Invalid(why) => why,
            TarError::Tree(error) => error.to_string(),
        })
    }

    #[test]
    fn an_entry_has_its_mode_owner_and_numbers() {
        let mut device = header(EntryType::Block);
        device.set_device_major(254).unwrap();
        device.set_device_minor(3).unwrap();
        let node = Node {
            perm: 0o640,
            uid: 1000,
            gid: 100,
            kind: Kind::Device {
                block: true,
                major: 254,
                minor: 3,
            },
        };
        assert_eq!(first(device), Ok(Some((b"name".to_vec(), node))));
        let (_, node) = first(header(EntryType::Continuous)).unwrap().unwrap();
        assert_eq!(node.kind, Kind::File(Content::Bytes(Arc::default())));
    }

    #[test]
    fn entries_without_a_meaning_are_refused() {
        let mut hard = header(EntryType::Link);
        hard.set_link_name("elsewhere").unwrap();
        let mut owner = header(EntryType::Regular);
        owner.set_uid(1 << 40);
        for (header, why) in [
            (
                header(EntryType::Symlink),
                "`name` is a link without a target",
            ),
            (hard, "`name` is a link to `elsewhere`, which is not a file"),
            (owner, "`name` has an owner of a too large number"),
            (header(EntryType::new(b'z')), "`name` has the unknown type"),
        ] {
            let error = first(header).unwrap_err();
            assert!(error.starts_with(why), "{error}");
        }
        assert_eq!(first(header(EntryType::XGlobalHeader)), Ok(None));
    }
}
