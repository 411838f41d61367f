//! Writing an archive.

use super::{ALIGNMENT, HEADER_LEN, MAGIC, TRAILER};
use crate::tree::{Content, Kind, Node};
use std::io::{self, Read, Write};

/// The archive's end is filled up to a multiple of this: whatever follows is aligned then.
const BLOCK: u64 = 512;

/// Writes an archive to `out`, entry by entry. A folder must come before what is in it.
#[derive(Debug)]
pub(crate) struct Writer<W> {
    out: W,
    position: u64,
    next_inode: u32,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(out: W) -> Self {
        Self {
            out,
            position: 0,
            next_inode: 1,
        }
    }

    /// Adds what is at `path` (relative to the root, without a leading slash).
    pub(crate) fn add(&mut self, path: &[u8], node: &Node) -> io::Result<()> {
        let mode = node.kind.file_type() | node.perm;
        match &node.kind {
            Kind::Directory => self.header(path, node, mode, 2, 0, (0, 0)),
            Kind::Fifo => self.header(path, node, mode, 1, 0, (0, 0)),
            Kind::Device { major, minor, .. } => {
                self.header(path, node, mode, 1, 0, (*major, *minor))
            }
            Kind::Symlink(target) => {
                self.header(path, node, mode, 1, target.len() as u64, (0, 0))?;
                self.content(target)
            }
            Kind::File(Content::Bytes(bytes)) => {
                self.header(path, node, mode, 1, bytes.len() as u64, (0, 0))?;
                self.content(bytes)
            }
            Kind::File(Content::OnDisk { path: source, len }) => {
                self.header(path, node, mode, 1, *len, (0, 0))?;
                let mut source = fs_err::File::open(source)?.take(*len);
                let copied = io::copy(&mut source, &mut self.out)?;
                // The header has been written: the file must have been as long as it said.
                if copied != *len {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        format!(
                            "{} got shorter while it was read",
                            source.get_ref().path().display()
                        ),
                    ));
                }
                self.position += copied;
                self.pad(ALIGNMENT)
            }
        }
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.next_inode = 0;
        let trailer = Node {
            perm: 0,
            uid: 0,
            gid: 0,
            kind: Kind::Directory,
        };
        self.header(TRAILER, &trailer, 0, 1, 0, (0, 0))?;
        self.pad(BLOCK)?;
        Ok(self.out)
    }

    fn header(
        &mut self,
        path: &[u8],
        node: &Node,
        mode: u32,
        links: u32,
        size: u64,
        device: (u32, u32),
    ) -> io::Result<()> {
        let too_large = || io::Error::new(io::ErrorKind::InvalidData, "a file of 4 GiB or more");
        let size = u32::try_from(size).map_err(|_| too_large())?;
        let name_size = u32::try_from(path.len() + 1).map_err(|_| too_large())?;
        let mut header = Vec::with_capacity(HEADER_LEN + path.len() + 4);
        header.extend_from_slice(MAGIC);
        let numbers = [
            self.next_inode,
            mode,
            node.uid,
            node.gid,
            links,
            0, // time
            size,
            0, // device that it lies on
            0,
            device.0,
            device.1,
            name_size,
            0, // checksum
        ];
        for number in numbers {
            write!(header, "{number:08x}")?;
        }
        header.extend_from_slice(path);
        header.push(0);
        self.next_inode += 1;
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
}
