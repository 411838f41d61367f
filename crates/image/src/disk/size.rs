//! How large the file system has to be that a tree becomes.

use crate::error::ImageError;
use crate::node::{Content, Kind};
use crate::tree::Tree;
use crate::walk::read_error;
use rustix::fs::{SeekFrom, seek};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The size of a block, bytes.
pub(super) const BLOCK: u64 = 4096;

/// The length of an inode, bytes.
pub(super) const INODE: u64 = 256;

const MIB: u64 = 1 << 20;

/// The free space: this part of the content, and at least this.
const FREE_PART: u64 = 4;
const LEAST_FREE: u64 = 64 * MIB;

/// A symbolic link with a target that is not longer is in its inode, bytes.
const LONGEST_INLINE_TARGET: usize = 59;

/// An entry of a folder without its name, bytes.
const DIRECTORY_ENTRY: u64 = 8;

/// The dimensions of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dimensions {
    /// Bytes.
    pub(super) size: u64,
    pub(super) inodes: u64,
    /// MiB.
    pub(super) journal: u64,
}

/// The dimensions for `tree`, with free space.
///
/// # Errors
/// If a file is gone.
pub(super) fn dimensions(tree: &Tree) -> Result<Dimensions, ImageError> {
    let mut content = 0;
    let mut folders: BTreeMap<&[u8], u64> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut nodes = 0;
    for (path, node) in tree.iter() {
        nodes += 1;
        let (above, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&b""[..], path),
        };
        *folders.entry(above).or_default() +=
            DIRECTORY_ENTRY + (name.len() as u64).next_multiple_of(4);
        content += match &node.kind {
            Kind::Directory => BLOCK,
            Kind::Symlink(target) if target.len() > LONGEST_INLINE_TARGET => BLOCK,
            Kind::File(file) if file.shared().is_none_or(|file| seen.insert(file)) => length(file)?,
            _ => 0,
        };
    }
    // Names do not fill their blocks, as none lies in two of them.
    content += folders
        .values()
        .map(|bytes| (bytes + bytes / 8) / BLOCK * BLOCK)
        .sum::<u64>();
    let free = (content / FREE_PART).max(LEAST_FREE);
    let inodes = nodes + (nodes / 4).max(free / (4 * BLOCK)).max(1024);
    let journal = if content + free < 256 * MIB { 4 } else { 16 };
    let rest = inodes * INODE + journal * MIB;
    // Bitmaps, blocks of extents and of attributes, the copies of the superblock.
    let overhead = (content + free + rest) / 64 + 2 * MIB;
    Ok(Dimensions {
        size: (content + free + rest + overhead).next_multiple_of(MIB),
        inodes,
        journal,
    })
}

/// What the blocks of a file take.
fn length(file: &Content) -> Result<u64, ImageError> {
    let length = match file {
        Content::Bytes(bytes) => bytes.len() as u64,
        Content::OnDisk { path, len, .. } => {
            let failed = |source| read_error(path, source);
            let metadata = path.metadata().map_err(failed)?;
            if metadata.blocks() * 512 < *len {
                data_length(path, *len).map_err(failed)?
            } else {
                *len
            }
        }
    };
    Ok(length.next_multiple_of(BLOCK))
}

/// The length of a file without its holes. The file takes fewer blocks than its length has, which may be because of
/// a compression instead.
fn data_length(path: &Path, length: u64) -> io::Result<u64> {
    let file = std::fs::File::open(path)?;
    let (mut at, mut sum) = (0, 0);
    while at < length {
        let data = match seek(&file, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        at = seek(&file, SeekFrom::Hole(data))?;
        sum += (at - data).next_multiple_of(BLOCK);
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Node;

    #[test]
    fn there_is_room_for_the_content_and_the_free_space() {
        let mut tree = Tree::default();
        let shared = Node::file(0o644, vec![1; 10 << 20]);
        for name in ["a", "b", "c"] {
            tree.put(name.as_bytes(), shared.clone()).unwrap();
        }
        drop(shared);
        let small = dimensions(&tree).unwrap();
        assert!(small.size > (10 << 20) + LEAST_FREE, "{small:?}");
        assert!(small.size < (20 << 20) + LEAST_FREE, "one file: {small:?}");
        let content = vec![0; 1 << 30];
        tree.put(b"d", Node::file(0o644, content)).unwrap();
        let large = dimensions(&tree).unwrap();
        let free = (1 << 30) / FREE_PART;
        assert!(large.size > (10 << 20) + (1 << 30) + free, "{large:?}");
        assert!(large.inodes > small.inodes);
        assert!(large.journal > small.journal);
    }

    #[test]
    fn holes_take_no_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sparse");
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(1 << 40).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"data", 1 << 39).unwrap();
        let len = 1 << 40;
        let shared = None;
        let content = Content::OnDisk { path, len, shared };
        assert_eq!(length(&content).unwrap(), BLOCK);
    }
}
