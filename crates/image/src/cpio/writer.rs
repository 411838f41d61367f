//! Writing an archive.

use super::format::{ALIGNMENT, HEADER_LEN, MAGIC, TRAILER};
use crate::node::{Content, Identity, Kind, Node};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};

/// The archive's end is filled up to a multiple of this: whatever follows is aligned then.
const BLOCK: u64 = 512;

/// Writes an archive to `out`, entry by entry. A folder must come before what is in it.
#[derive(Debug)]
pub(crate) struct Writer<W> {
    out: W,
    position: u64,
    next_inode: u32,
    /// Inodes of the files with several names that are in the archive already.
    shared: BTreeMap<Identity, u32>,
}

/// What a header says besides its node's path, mode and owner.
struct HeaderFields {
    /// `None`: the next one.
    inode: Option<u32>,
    links: u32,
    size: u64,
    device: (u32, u32),
}

impl Default for HeaderFields {
    fn default() -> Self {
        Self {
            inode: None,
            links: 1,
            size: 0,
            device: (0, 0),
        }
    }
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(out: W) -> Self {
        Self {
            out,
            position: 0,
            next_inode: 1,
            shared: BTreeMap::new(),
        }
    }

    /// Adds what is at `path` (relative to the root, without a leading slash).
    pub(crate) fn add(&mut self, path: &[u8], node: &Node) -> io::Result<()> {
        match &node.kind {
            Kind::Directory => self.header(
                path,
                node,
                HeaderFields {
                    links: 2,
                    ..HeaderFields::default()
                },
            ),
            Kind::Fifo => self.header(path, node, HeaderFields::default()),
            Kind::Device { major, minor, .. } => self.header(
                path,
                node,
                HeaderFields {
                    device: (*major, *minor),
                    ..HeaderFields::default()
                },
            ),
            Kind::Symlink(target) => {
                self.header(
                    path,
                    node,
                    HeaderFields {
                        size: target.len() as u64,
                        ..HeaderFields::default()
                    },
                )?;
                self.content(target)
            }
            Kind::File(content) => self.add_file(path, node, content),
        }
    }

    /// Of the names of one file, the first comes with the content; the others are empty entries with
    /// the same inode (init/initramfs.c, `maybe_link`).
    fn add_file(&mut self, path: &[u8], node: &Node, content: &Content) -> io::Result<()> {
        let mut fields = HeaderFields {
            size: content.len(),
            ..HeaderFields::default()
        };
        if let Some(identity) = content.shared() {
            fields.links = 2;
            fields.inode = self.shared.get(&identity).copied();
            if fields.inode.is_some() {
                return self.header(path, node, HeaderFields { size: 0, ..fields });
            }
            self.shared.insert(identity, self.next_inode);
        }
        self.header(path, node, fields)?;
        match content {
            Content::Bytes(bytes) => self.content(bytes),
            Content::OnDisk {
                path: source, len, ..
            } => {
                let mut source = fs_err::File::open(source)?.take(*len);
                let copied = io::copy(&mut source, &mut self.out)?;
                // The header has been written: the file must have been as long as it said.
                if copied != *len {
                    let path = source.get_ref().path().display();
                    let why = format!("{path} got shorter while it was read");
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
                }
                self.position += copied;
                self.pad(ALIGNMENT)
            }
        }
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        let fields = HeaderFields {
            inode: Some(0),
            ..HeaderFields::default()
        };
        self.raw_header(TRAILER, [0, 0, 0], fields)?;
        self.pad(BLOCK)?;
        Ok(self.out)
    }

    fn header(&mut self, path: &[u8], node: &Node, fields: HeaderFields) -> io::Result<()> {
        let mode = node.kind.file_type() | node.perm;
        self.raw_header(path, [mode, node.uid, node.gid], fields)
    }

    fn raw_header(
        &mut self,
        path: &[u8],
        [mode, uid, gid]: [u32; 3],
        fields: HeaderFields,
    ) -> io::Result<()> {
        let too_large = || {
            let why = format!("{} has 4 GiB or more", String::from_utf8_lossy(path));
            io::Error::new(io::ErrorKind::InvalidData, why)
        };
        let size = u32::try_from(fields.size).map_err(|_| too_large())?;
        let name_size = u32::try_from(path.len() + 1).map_err(|_| too_large())?;
        let mut header = Vec::with_capacity(HEADER_LEN + path.len() + 1);
        header.extend_from_slice(MAGIC);
        let numbers = [
            fields.inode.unwrap_or(self.next_inode),
            mode,
            uid,
            gid,
            fields.links,
            0, // time
            size,
            0, // device that it lies on
            0,
            fields.device.0,
            fields.device.1,
            name_size,
            0, // checksum
        ];
        for number in numbers {
            write!(header, "{number:08x}")?;
        }
        header.extend_from_slice(path);
        header.push(0);
        self.next_inode += u32::from(fields.inode.is_none());
        self.content(&header)
    }

    fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.position += bytes.len() as u64;
        self.pad(ALIGNMENT)
    }

    fn pad(&mut self, alignment: u64) -> io::Result<()> {
        let missing = self.position.next_multiple_of(alignment) - self.position;
        self.position += missing;
        io::copy(&mut io::repeat(0).take(missing), &mut self.out).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, Node)]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (path, node) in entries {
            writer.add(path.as_bytes(), node).unwrap();
        }
        writer.finish().unwrap()
    }

    /// The bytes that the kernel's `usr/gen_init_cpio` writes for the same list, but for times.
    #[test]
    fn golden() {
        let found = archive(&[
            ("dev", Node::directory(0o755)),
            ("dev/null", Node::device(0o666, 1, 3)),
            ("f", Node::file(0o640, *b"hello").owned_by(1000, 5)),
            ("link", Node::symlink("dev/null")),
        ]);
        let mut expected = Vec::new();
        for part in [
            "070701",
            "00000001",
            "000041ed",
            "00000000",
            "00000000",
            "00000002",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000004",
            "00000000",
            "dev\0\0\0", //
            "070701",
            "00000002",
            "000021b6",
            "00000000",
            "00000000",
            "00000001",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000001",
            "00000003",
            "00000009",
            "00000000",
            "dev/null\0\0", //
            "070701",
            "00000003",
            "000081a0",
            "000003e8",
            "00000005",
            "00000001",
            "00000000",
            "00000005",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000002",
            "00000000",
            "f\0",
            "hello\0\0\0", //
            "070701",
            "00000004",
            "0000a1ff",
            "00000000",
            "00000000",
            "00000001",
            "00000000",
            "00000008",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000005",
            "00000000",
            "link\0\0",
            "dev/null", //
            "070701",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000001",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "0000000b",
            "00000000",
            "TRAILER!!!\0",
        ] {
            expected.extend_from_slice(part.as_bytes());
        }
        expected.resize(expected.len().next_multiple_of(512), 0);
        assert_eq!(
            String::from_utf8_lossy(&found),
            String::from_utf8_lossy(&expected)
        );
    }

    #[test]
    fn a_file_on_disk_is_copied_and_must_not_shrink() {
        let folder = tempfile::tempdir().unwrap();
        let path = camino::Utf8PathBuf::from_path_buf(folder.path().join("f")).unwrap();
        fs_err::write(&path, "abc").unwrap();
        let on_disk = |len| Node {
            kind: Kind::File(Content::OnDisk {
                path: path.clone().into(),
                len,
                shared: None,
            }),
            ..Node::file(0o644, [])
        };
        assert_eq!(
            archive(&[("f", on_disk(3))]),
            archive(&[("f", Node::file(0o644, *b"abc"))])
        );
        let error = Writer::new(Vec::new()).add(b"f", &on_disk(4)).unwrap_err();
        assert!(error.to_string().contains("shorter"));
    }

    #[test]
    fn names_of_one_file_share_its_content() {
        let first = Node::file(0o755, vec![7; 100]);
        let bytes = archive(&[("a", first.clone()), ("b", first.clone()), ("c", first)]);
        assert_eq!(bytes.len(), 1024);
        let numbers = |at: usize| std::str::from_utf8(&bytes[at..at + 62]).unwrap().to_owned();
        assert!(numbers(0).starts_with("07070100000001000081ed00000000000000000000000200000000"));
        assert_eq!(&numbers(0)[54..], "00000064");
        assert!(numbers(212).starts_with("07070100000001000081ed00000000000000000000000200000000"));
        assert_eq!(&numbers(212)[54..], "00000000");
    }
}
