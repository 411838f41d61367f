//! The numbers and names of the format: what `reader` and `writer` agree on.

/// First bytes of every entry.
pub(crate) const MAGIC: &[u8; 6] = b"070701";
/// As [`MAGIC`], for entries with a checksum, which the kernel does not look at.
pub(crate) const MAGIC_CRC: &[u8; 6] = b"070702";
/// Length of an entry's header: the magic and thirteen numbers of eight hex digits.
pub(super) const HEADER_LEN: usize = 6 + 13 * 8;
/// Name of the entry that ends an archive.
pub(super) const TRAILER: &[u8] = b"TRAILER!!!";
/// Headers, names and contents start at multiples of this.
pub(super) const ALIGNMENT: u64 = 4;

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
