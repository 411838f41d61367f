//! The `newc` cpio format, of which initial RAM file systems are made.
//!
//! Source: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst and
//! init/initramfs.c. Written archives are the same for the same content: times are zero and inodes
//! are counted from 1.

mod reader;
mod writer;

pub(crate) use reader::{Header, archive_len, read_entries};
pub(crate) use writer::Writer;

/// First bytes of every entry.
pub(crate) const MAGIC: &[u8; 6] = b"070701";
/// As [`MAGIC`], for entries with a checksum, which the kernel does not look at.
pub(crate) const MAGIC_CRC: &[u8; 6] = b"070702";
/// Length of an entry's header: the magic and thirteen numbers of eight hex digits.
const HEADER_LEN: usize = 6 + 13 * 8;
/// Name of the entry that ends an archive.
const TRAILER: &[u8] = b"TRAILER!!!";
/// Headers, names and contents start at multiples of this.
const ALIGNMENT: u64 = 4;

/// File types, as in the mode of `stat(2)`.
pub(crate) mod file_type {
    pub(crate) const MASK: u32 = 0o170_000;
    pub(crate) const FIFO: u32 = 0o010_000;
    pub(crate) const CHARACTER_DEVICE: u32 = 0o020_000;
    pub(crate) const DIRECTORY: u32 = 0o040_000;
    pub(crate) const BLOCK_DEVICE: u32 = 0o060_000;
    pub(crate) const FILE: u32 = 0o100_000;
    pub(crate) const SYMLINK: u32 = 0o120_000;
}
