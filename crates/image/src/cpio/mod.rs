//! The `newc` cpio format, of which initial RAM file systems are made.
//!
//! Source: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst and
//! init/initramfs.c. Written archives are the same for the same content: times are zero and inodes
//! are counted from 1.

mod format;
mod reader;
mod writer;

pub(crate) use format::{MAGIC, MAGIC_CRC, file_type};
pub(crate) use reader::{Header, archive_len, read_entries};
pub(crate) use writer::Writer;
