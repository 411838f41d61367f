//! A Debian package's files, read into a tree: no program is needed, and nothing of the package ever
//! becomes a path of the host.
//!
//! Source: `deb(5)`; an `ar` archive with `data.tar.*` in it.

use crate::compress::Format;
use crate::error::ImageError;
use crate::node::Content;
use crate::tar_entry::{TarError, node_of};
use crate::tree::Tree;
use std::io::Read;
use std::sync::Arc;

const MAGIC: &[u8] = b"!<arch>\n";
/// Length of a member's header, and where its size is.
const HEADER: usize = 60;
const SIZE: std::ops::Range<usize> = 48..58;

/// Largest file of a package, bytes.
const LONGEST_FILE: u64 = 2 << 30;

/// Adds the files of the package in `bytes` to `tree`. `name` is for messages.
pub(crate) fn unpack_into(tree: &mut Tree, bytes: &[u8], name: &str) -> Result<(), ImageError> {
    let bad = |why: String| ImageError::BadPackage {
        file: name.to_owned(),
        why,
    };
    let (member, data) = data_member(bytes)
        .ok_or_else(|| bad("not a Debian package: no `data.tar` member".to_owned()))?;
    let reader: Box<dyn Read + '_> = match member.strip_prefix("data.tar") {
        Some("") => Box::new(data),
        _ => {
            let format = Format::of_name(member)
                .ok_or_else(|| bad(format!("its `{member}` is compressed in an unknown format")))?;
            format
                .reader(data)
                .map_err(|error| bad(error.to_string()))?
        }
    };
    let mut archive = tar::Archive::new(reader);
    for entry in archive.entries().map_err(|error| bad(error.to_string()))? {
        let entry = entry.map_err(|error| bad(error.to_string()))?;
        add(tree, entry).map_err(|error| match error {
            TarError::Read(error) => bad(error.to_string()),
            TarError::Tree(error) => bad(error.in_one_line()),
            TarError::Invalid(why) => bad(why),
        })?;
    }
    Ok(())
}

fn add(tree: &mut Tree, mut entry: tar::Entry<'_, impl Read>) -> Result<(), TarError> {
    let node = node_of(&mut entry, tree, |entry| {
        if entry.size() > LONGEST_FILE {
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            return Err(TarError::Invalid(format!("`{path}` is too long")));
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        Ok(Content::Bytes(Arc::new(content)))
    })?;
    if let Some((path, node)) = node {
        tree.put(&path, node)?;
    }
    Ok(())
}

/// The name and content of the member that holds the files.
fn data_member(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let mut rest = bytes.strip_prefix(MAGIC)?;
    loop {
        let header = rest.get(..HEADER)?;
        let name = std::str::from_utf8(&header[..16])
            .ok()?
            .trim_end()
            .trim_end_matches('/');
        let size: usize = std::str::from_utf8(&header[SIZE])
            .ok()?
            .trim_end()
            .parse()
            .ok()?;
        let content = rest.get(HEADER..HEADER.checked_add(size)?)?;
        if name.starts_with("data.tar") {
            return Some((name, content));
        }
        // Members start at even offsets.
        rest = rest.get(HEADER + size.next_multiple_of(2)..)?;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::compress::tests::gzip_of;
    use crate::node::Node;
    use proptest::prelude::*;
    use tar::EntryType;

    fn member(name: &str, content: &[u8]) -> Vec<u8> {
        let mut out = format!(
            "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n",
            0,
            0,
            0,
            100644,
            content.len()
        )
        .into_bytes();
        out.extend(content);
        out.resize(out.len().next_multiple_of(2), b'\n');
        out
    }

    fn tar_of(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        builder.into_inner().unwrap()
    }

    fn header(kind: EntryType, size: u64, mode: u32) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(42);
        header
    }

    fn package(tar: &[u8]) -> Vec<u8> {
        [
            MAGIC.to_vec(),
            member("debian-binary", b"2.0\n"),
            member("control.tar.xz", b"odd"),
            member("data.tar.gz", &gzip_of(tar)),
        ]
        .concat()
    }

    pub(crate) fn example() -> Vec<u8> {
        package(&tar_of(|tar| {
            let long = format!("./usr/share/{}/file", "x".repeat(150));
            tar.append_data(
                &mut header(EntryType::Directory, 0, 0o755),
                "./bin/",
                &[][..],
            )
            .unwrap();
            tar.append_data(
                &mut header(EntryType::Regular, 2, 0o4755),
                "./bin/su",
                &b"su"[..],
            )
            .unwrap();
            tar.append_link(
                &mut header(EntryType::Link, 0, 0o4755),
                "./bin/hard",
                "./bin/su",
            )
            .unwrap();
            tar.append_link(
                &mut header(EntryType::Symlink, 0, 0o777),
                "./bin/soft",
                "su",
            )
            .unwrap();
            tar.append_data(&mut header(EntryType::Regular, 1, 0o644), long, &b"y"[..])
                .unwrap();
        }))
    }

    #[test]
    fn files_links_and_owners_come_out() {
        let mut tree = Tree::default();
        tree.put(b"usr/bin", Node::directory(0o755)).unwrap();
        tree.put(b"bin", Node::symlink("usr/bin")).unwrap();
        unpack_into(&mut tree, &example(), "p.deb").unwrap();
        let su = Node::file(0o4755, *b"su").owned_by(0, 42);
        assert_eq!(tree.get(b"usr/bin/su"), Some(&su));
        assert_eq!(tree.get(b"bin/hard"), Some(&su));
        assert_eq!(
            tree.get(b"bin/soft"),
            Some(&Node::symlink("su").owned_by(0, 42))
        );
        assert_eq!(tree.get(b"bin"), Some(&Node::symlink("usr/bin")));
        let long = format!("usr/share/{}/file", "x".repeat(150));
        assert!(tree.get(long.as_bytes()).is_some());
    }

    #[test]
    fn other_files_and_paths_outside_of_the_root_are_refused() {
        let mut evil = header(EntryType::Regular, 1, 0o644);
        evil.as_mut_bytes()[..9].copy_from_slice(b"../../etc");
        evil.set_cksum();
        let evil = package(&tar_of(|tar| tar.append(&evil, &b"x"[..]).unwrap()));
        for (bytes, why) in [
            (&evil[..], "`..`"),
            (b"no package", "not a Debian package"),
            (&example()[..200], "not a Debian package"),
        ] {
            let error = unpack_into(&mut Tree::default(), bytes, "p.deb").unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
            assert!(error.to_string().contains("p.deb"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn damage_never_panics(changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..8)) {
            let mut bytes = example();
            for (at, byte) in changes {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            let _ = unpack_into(&mut Tree::default(), &bytes, "p.deb");
        }
    }
}
