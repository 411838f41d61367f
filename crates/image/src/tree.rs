//! A file system's tree in memory, before it becomes an archive.
//!
//! Paths are bytes, relative to the root, without `.` and `..`. A symlink in the middle of a path is
//! followed as the guest would: so a package that ships `bin/x` fills `usr/bin` where `bin` is a
//! link to it.

use crate::cpio;
use crate::error::ImageError;
use crate::node::{Content, Kind, Node};
use provium_store::{Key, KeyBuilder};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;

/// Maximum number of links that are followed in one path, as in the kernel.
const MAX_LINKS: usize = 40;

/// A tree. Its root folder is in it under the name `.`, if at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tree(BTreeMap<Vec<u8>, Node>);

impl Tree {
    /// Puts `node` at `path`, with the folders that are missing above it. What was there is
    /// replaced; but a folder, or a link to one, stays when a folder is put there.
    ///
    /// # Errors
    /// [`ImageError::BadPath`] for a path that leaves the root, or leads through a file.
    pub(crate) fn put(&mut self, path: &[u8], node: Node) -> Result<(), ImageError> {
        let Some((missing, path)) = self.locate(path)? else {
            return Ok(());
        };
        for folder in missing {
            self.0.insert(folder, Node::directory(0o755));
        }
        if node.kind == Kind::Directory {
            match self.0.get_mut(&path) {
                Some(there) if there.kind == Kind::Directory => {
                    *there = node;
                    return Ok(());
                }
                Some(Node {
                    kind: Kind::Symlink(_),
                    ..
                }) => {
                    let target = self.follow(&path, &mut 0).map_err(|why| bad(&path, why))?;
                    if self.is_directory(&target) || !self.0.contains_key(&target) {
                        self.put_missing_directory(target, node);
                        return Ok(());
                    }
                }
                _ => (),
            }
        }
        self.0.insert(path, node);
        Ok(())
    }

    /// Says what the root folder's permissions are: without that, those of the kernel's own root stay,
    /// which lets all users write.
    pub(crate) fn add_root(&mut self, perm: u32) {
        self.0.insert(b".".to_vec(), Node::directory(perm));
    }

    /// Adds `node` at exactly `path`, which [`locate`](Self::locate) gave for another tree.
    pub(crate) fn add(&mut self, path: Vec<u8>, node: Node) {
        self.0.insert(path, node);
    }

    /// Changes the owners of all nodes.
    pub(crate) fn map_owners(&mut self, map: impl Fn(u32, u32) -> (u32, u32)) {
        for node in self.0.values_mut() {
            (node.uid, node.gid) = map(node.uid, node.gid);
        }
    }

    /// What is at `path`; links in the middle of it are followed, one at its end is not.
    pub(crate) fn get(&self, path: &[u8]) -> Option<&Node> {
        let (missing, path) = self.locate(path).ok()??;
        if missing.is_empty() {
            self.0.get(&path)
        } else {
            None
        }
    }

    /// Takes out what is at `path` and below it.
    pub(crate) fn take_below(&mut self, path: &[u8]) -> Tree {
        let prefix = [path, b"/"].concat();
        let inside = |found: &[u8]| found == path || found.starts_with(&prefix);
        let (taken, left) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|(found, _)| inside(found));
        self.0 = left;
        Tree(taken)
    }

    /// The folders that have to be made before `path` can be, from the top, and the path itself as
    /// it is with its links followed. `None` for the root.
    pub(crate) fn locate(&self, path: &[u8]) -> Result<Option<ResolvedPath>, ImageError> {
        let wrong = |why| bad(path, why);
        let mut names = components(path).map_err(wrong)?;
        let Some(last) = names.pop() else {
            return Ok(None);
        };
        let mut links = 0;
        let mut folder = Vec::new();
        let mut missing = Vec::new();
        for name in names {
            folder = joined(&folder, name);
            folder = self.follow(&folder, &mut links).map_err(wrong)?;
            match self.0.get(&folder) {
                None => {
                    if !missing.contains(&folder) && !folder.is_empty() {
                        self.add_missing(&folder, &mut missing);
                    }
                }
                Some(Node {
                    kind: Kind::Directory,
                    ..
                }) => (),
                Some(_) => return Err(wrong("a component of it is not a folder")),
            }
        }
        Ok(Some((missing, joined(&folder, last))))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &Node)> {
        self.0.iter().map(|(path, node)| (&path[..], node))
    }

    pub(crate) fn into_nodes(self) -> impl Iterator<Item = (Vec<u8>, Node)> {
        self.0.into_iter()
    }

    /// The length of all files, bytes.
    pub(crate) fn content_len(&self) -> u64 {
        let mut seen = std::collections::BTreeSet::new();
        let files = self.0.values().filter_map(|node| match &node.kind {
            Kind::File(content) => Some(content),
            _ => None,
        });
        files
            .filter(|file| file.shared().is_none_or(|file| seen.insert(file)))
            .map(Content::len)
            .sum()
    }

    /// A key of what is known of the tree without reading its files on the disk.
    ///
    /// # Errors
    /// If a file on the disk is gone.
    pub(crate) fn stamp(&self) -> Result<Key, ImageError> {
        let mut key = KeyBuilder::new("tree");
        for (path, node) in self.iter() {
            let Node {
                perm,
                uid,
                gid,
                kind,
            } = node;
            key = key
                .with("path", path)
                .with("node", format!("{perm} {uid} {gid}"));
            key = match kind {
                Kind::File(Content::Bytes(bytes)) => key.with("bytes", &**bytes),
                Kind::File(Content::OnDisk { path, len, shared }) => {
                    let failed = |source| {
                        let path = path.to_string_lossy().into_owned().into();
                        ImageError::Read { path, source }
                    };
                    let file = path.symlink_metadata().map_err(failed)?;
                    let times = (
                        file.mtime(),
                        file.mtime_nsec(),
                        file.ctime(),
                        file.ctime_nsec(),
                    );
                    key.with("file", format!("{len} {shared:?} {} {times:?}", file.ino()))
                }
                other => key.with("kind", format!("{other:?}")),
            };
        }
        Ok(key.finish())
    }

    /// The whole tree as one archive.
    pub(crate) fn write_to<W: Write>(&self, out: W) -> io::Result<W> {
        let mut writer = cpio::Writer::new(out);
        for (path, node) in self.iter() {
            writer.add(path, node)?;
        }
        writer.finish()
    }

    fn is_directory(&self, path: &[u8]) -> bool {
        path.is_empty()
            || self
                .0
                .get(path)
                .is_some_and(|node| node.kind == Kind::Directory)
    }

    fn put_missing_directory(&mut self, path: Vec<u8>, node: Node) {
        if path.is_empty() {
            return;
        }
        let mut missing = Vec::new();
        self.add_missing(&path, &mut missing);
        for folder in missing {
            self.0.insert(folder, Node::directory(0o755));
        }
        self.0.insert(path, node);
    }

    /// Adds `path` and those above it that are not there, from the top.
    fn add_missing(&self, path: &[u8], missing: &mut Vec<Vec<u8>>) {
        let ends = path
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'/')
            .map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            let above = path[..end].to_vec();
            if !self.0.contains_key(&above) && !missing.contains(&above) {
                missing.push(above);
            }
        }
    }

    /// Follows links at the end of `path` (whose folders are followed already) until there is none.
    fn follow(&self, path: &[u8], links: &mut usize) -> Result<Vec<u8>, &'static str> {
        let mut path = path.to_vec();
        while let Some(Node {
            kind: Kind::Symlink(target),
            ..
        }) = self.0.get(&path)
        {
            *links += 1;
            if *links > MAX_LINKS {
                return Err("its links go in a circle");
            }
            let mut base = if target.starts_with(b"/") {
                Vec::new()
            } else {
                parent(&path).to_vec()
            };
            for name in target.split(|byte| *byte == b'/') {
                base = match name {
                    b"" | b"." => base,
                    b".." => parent(&base).to_vec(),
                    name => self.follow(&joined(&base, name), links)?,
                };
            }
            path = base;
        }
        Ok(path)
    }
}

/// Missing folders from the top, and a path with its links followed.
pub(crate) type ResolvedPath = (Vec<Vec<u8>>, Vec<u8>);

fn bad(path: &[u8], why: &'static str) -> ImageError {
    ImageError::BadPath {
        path: String::from_utf8_lossy(path).into_owned(),
        why,
    }
}

fn components(path: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    if path.contains(&0) {
        return Err("it holds a NUL byte");
    }
    let names = path
        .split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".");
    let names: Vec<_> = names.collect();
    if names.contains(&&b".."[..]) {
        Err("it holds `..`")
    } else {
        Ok(names)
    }
}

fn parent(path: &[u8]) -> &[u8] {
    path.iter()
        .rposition(|byte| *byte == b'/')
        .map_or(&[], |at| &path[..at])
}

fn joined(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() {
        name.to_vec()
    } else {
        [folder, b"/", name].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(tree: &Tree) -> Vec<String> {
        tree.iter()
            .map(|(path, _)| String::from_utf8_lossy(path).into_owned())
            .collect()
    }

    fn put(tree: &mut Tree, path: &str, node: Node) {
        tree.put(path.as_bytes(), node).unwrap();
    }

    #[test]
    fn folders_are_made_and_links_followed() {
        let mut tree = Tree::default();
        put(&mut tree, "usr/bin", Node::directory(0o755));
        put(&mut tree, "bin", Node::symlink("usr/bin"));
        put(&mut tree, "lib", Node::symlink("/usr/lib"));
        put(&mut tree, "./bin/", Node::directory(0o755));
        put(&mut tree, "./bin/sh", Node::symlink("busybox"));
        put(&mut tree, "/lib/x/y", Node::file(0o644, *b"y"));
        assert_eq!(
            paths(&tree),
            [
                "bin",
                "lib",
                "usr",
                "usr/bin",
                "usr/bin/sh",
                "usr/lib",
                "usr/lib/x",
                "usr/lib/x/y"
            ]
        );
        assert_eq!(tree.get(b"lib/x/y"), Some(&Node::file(0o644, *b"y")));
        assert_eq!(tree.get(b"bin/sh"), Some(&Node::symlink("busybox")));
        assert_eq!(tree.get(b"lib/none/y"), None);
        assert_eq!(
            tree.locate(b"/lib/new/dir/file").unwrap().unwrap(),
            (
                vec![b"usr/lib/new".to_vec(), b"usr/lib/new/dir".to_vec()],
                b"usr/lib/new/dir/file".to_vec()
            )
        );
    }

    #[test]
    fn a_folder_may_be_added_through_a_dangling_link() {
        let mut tree = Tree::default();
        put(&mut tree, "lib64", Node::symlink("usr/lib64"));
        put(&mut tree, "lib64", Node::directory(0o755));
        assert_eq!(paths(&tree), ["lib64", "usr", "usr/lib64"]);
    }

    #[test]
    fn paths_that_leave_or_lead_nowhere_are_refused() {
        let mut tree = Tree::default();
        put(&mut tree, "file", Node::file(0o644, []));
        put(&mut tree, "a", Node::symlink("b"));
        put(&mut tree, "b", Node::symlink("a"));
        put(&mut tree, "out", Node::symlink("../../usr"));
        for bad in ["a/../b", "..", "file/x", "a/x", "nul\0"] {
            let error = tree.put(bad.as_bytes(), Node::file(0o644, [])).unwrap_err();
            assert!(matches!(error, ImageError::BadPath { .. }), "{bad}");
        }
        // As in a guest, the root is its own parent.
        put(&mut tree, "out/x", Node::file(0o644, []));
        assert!(tree.get(b"usr/x").is_some());
        put(&mut tree, "/", Node::directory(0o700));
    }

    #[test]
    fn a_subtree_can_be_removed() {
        let mut tree = Tree::default();
        for path in ["boot/vmlinuz", "boot/x/y", "boots", "usr/boot"] {
            put(&mut tree, path, Node::file(0o644, []));
        }
        let boot = tree.take_below(b"boot");
        assert_eq!(paths(&boot), ["boot", "boot/vmlinuz", "boot/x", "boot/x/y"]);
        assert_eq!(paths(&tree), ["boots", "usr", "usr/boot"]);
    }
}
