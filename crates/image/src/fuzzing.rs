//! Functions for a fuzzer. They take hostile bytes and panic if an invariant does not hold.

use crate::cpio::{archive_len, read_entries};
use crate::guest::unpack_package;
use crate::kernel::{Kernel, inspect};
use crate::tree::Tree;
use std::io::Cursor;

/// The entries of archives; an archive ends within the bytes.
pub fn cpio(bytes: &[u8]) {
    let mut entries = 0_usize;
    let all = read_entries(&mut Cursor::new(bytes), |_| entries += 1);
    // Each entry has a header of its own.
    assert!(entries <= bytes.len() / 100);
    match archive_len(bytes) {
        Ok(length) => assert!(length <= bytes.len()),
        Err(_) => assert!(all.is_err() || bytes.first().is_none_or(|byte| *byte == 0)),
    }
}

/// A package of the distribution, unpacked into a tree.
pub fn deb(bytes: &[u8]) {
    let mut tree = Tree::default();
    // Other files are refused; the tree refuses paths outside of its root.
    let _ = unpack_package(&mut tree, bytes, "fuzzed.deb");
}

/// A kernel's file, unpacked where it is packed.
pub fn kernel(bytes: &[u8]) {
    if let Ok(Kernel::Vmlinux(unpacked)) = inspect(bytes) {
        assert_eq!(inspect(&unpacked), Ok(Kernel::AsItIs));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress::tests::{gzip_of, lz4_legacy_of};
    use crate::cpio::Writer;
    use crate::elf;
    use crate::guest::example_package;
    use crate::kernel::around;
    use crate::node::Node;
    use provium_testkit::replay;

    #[test]
    fn hostile_archives() {
        let mut archive = Writer::new(Vec::new());
        archive.add(b"bin", &Node::symlink("usr/bin")).unwrap();
        archive.add(b"f", &Node::file(0o644, *b"content")).unwrap();
        let archive = archive.finish().unwrap();
        let two = [archive.as_slice(), &[0; 8], &archive].concat();
        replay(&[archive, two], 5000, cpio);
    }

    #[test]
    fn hostile_packages() {
        replay(&[example_package()], 1000, deb);
    }

    #[test]
    fn hostile_kernels() {
        let vmlinux = elf::tests::kernel(true);
        let packed = around(&gzip_of(&vmlinux));
        let mut lz4 = lz4_legacy_of(&vmlinux);
        lz4.extend(0x0001_0000_u32.to_le_bytes());
        replay(&[vmlinux, packed, around(&lz4)], 2000, kernel);
    }
}
