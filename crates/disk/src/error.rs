//! Errors of the owner of a disk. The errors of its guest are errno values.

use camino::Utf8PathBuf;
use std::io;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// The image cannot be opened.
    #[error("cannot open the disk image `{path}`")]
    Open {
        /// The image.
        path: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The image is a directory, a FIFO, a character device or the like.
    #[error(
        "`{path}` cannot be a disk: it is neither a regular file nor a block device; name a raw image"
    )]
    NotAnImage {
        /// What was named.
        path: Utf8PathBuf,
    },
    /// The image is in another format than raw.
    #[error(
        "the disk image `{path}` is in the format {format}; convert it with `qemu-img convert -O raw`"
    )]
    NotRaw {
        /// The image.
        path: Utf8PathBuf,
        /// Its format.
        format: &'static str,
    },
    /// Another disk writes to the image, or this one would write to an image that others read.
    #[error(
        "the disk image `{path}` is in use by another disk, of a VM that may be off, or by another run; detach that \
         disk, use a copy, or let both copy on write"
    )]
    InUse {
        /// The image.
        path: Utf8PathBuf,
    },
    /// Something has written to the image, of which the disk is a copy.
    #[error(
        "the disk image `{path}` has changed since the disk was opened, so what the guest reads is a mixture of both; \
         do not write to an image while disks are copies of it, or make the disk of a copy of the file"
    )]
    ImageChanged {
        /// The image.
        path: Utf8PathBuf,
    },
    /// The image has more bytes than the disk.
    #[error(
        "the disk image `{path}` has {image} bytes, more than the disk's {size}; raise the size of the disk"
    )]
    ImageTooLarge {
        /// The image.
        path: Utf8PathBuf,
        /// Bytes of it.
        image: u64,
        /// Bytes of the disk.
        size: u64,
    },
    /// The size cannot be one of a disk.
    #[error(
        "a disk cannot have {size} bytes: the size must be a multiple of 512, at least 512 and at most 4194304T"
    )]
    Size {
        /// Bytes.
        size: u64,
    },
    /// Sectors that the disk does not have.
    #[error("sectors {first} to {last} are outside the disk, which has {sectors} sectors")]
    OutOfRange {
        /// The first one.
        first: u64,
        /// The last one.
        last: u64,
        /// Sectors of the disk.
        sectors: u64,
    },
    /// Data that is not whole sectors.
    #[error("{length} bytes are not whole sectors of 512 bytes")]
    NotSectors {
        /// Bytes of data.
        length: usize,
    },
    /// Nothing can be written to it.
    #[error("the disk is read-only")]
    ReadOnly,
    /// Something needs the log.
    #[error("the writes of the disk are not recorded; call `mark()` before them")]
    NoLog,
    /// Something needs a log, and there is nothing to record.
    #[error("the disk is read-only, so a loss of power leaves it as it is")]
    NeverWritten,
    /// A mark that the log has not reached.
    #[error(
        "the mark {mark} is after the last recorded command, which is {last}; use a mark of this disk that was \
         taken after the last restore of its VM"
    )]
    MarkAhead {
        /// The mark.
        mark: u64,
        /// The last command of the log.
        last: u64,
    },
    /// The log does not have all since the mark.
    #[error(
        "the record lacks writes after the mark {mark}: the VM was restored after it, or the record has become \
         too large; use a later mark"
    )]
    MarkLost {
        /// The mark.
        mark: u64,
    },
    /// The saved disk cannot be used.
    #[error("the saved disk in `{folder}` cannot be used: {reason}")]
    Damaged {
        /// Where it is.
        folder: Utf8PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The content would replace a file.
    #[error(
        "`{path}` exists, and `save` does not overwrite files; remove it, or name another path"
    )]
    Exists {
        /// The file.
        path: Utf8PathBuf,
    },
    /// The content cannot be written to a file.
    #[error("cannot write the content to `{path}`")]
    Export {
        /// The new file.
        path: Utf8PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The host could not read or write the disk's files.
    #[error("cannot {action} the disk's files")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl DiskError {
    /// A closure for `map_err`.
    pub(crate) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }
}
