//! The data of an overlay.

use crate::geometry::{BLOCK, to_usize};
use crate::sparse_copy::copy_sparse;
use camino::Utf8Path;
use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

/// A sparse file of blocks. While a disk writes to it, it has no name, so that nothing is left when the process ends.
#[derive(Debug)]
pub(crate) struct SlotFile {
    file: File,
}

impl SlotFile {
    /// A new, empty one in a folder.
    pub(crate) fn create(folder: &Utf8Path) -> io::Result<Self> {
        unnamed(folder, PRIVATE).map(|file| Self { file })
    }

    /// One that was saved; it is not written to.
    pub(crate) fn open(path: &Utf8Path) -> io::Result<Self> {
        File::open(path).map(|file| Self { file })
    }

    /// Reads from a slot and those that follow; zeroes where the file ends before.
    pub(crate) fn read(&self, slot: u64, skip: u64, buffer: &mut [u8]) -> io::Result<()> {
        read_padded(&self.file, slot * BLOCK + skip, buffer)
    }

    /// Writes to a slot and those that follow.
    pub(crate) fn write(&self, slot: u64, skip: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, slot * BLOCK + skip)
    }

    /// Gives the space of slots back to the host. That a file system cannot do so is not an error.
    pub(crate) fn punch(&self, slot: u64, count: u64) {
        let _ = rustix::fs::fallocate(
            &self.file,
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            slot * BLOCK,
            count * BLOCK,
        );
    }

    /// Bytes from its start to its end.
    pub(crate) fn length(&self) -> io::Result<u64> {
        self.file.metadata().map(|data| data.len())
    }

    /// See [`link_or_copy`].
    pub(crate) fn link_or_copy(&self, path: &Utf8Path) -> io::Result<()> {
        link_or_copy(&self.file, path)
    }
}

/// Gives an open file a further name, or makes a copy of that name where the file system cannot.
pub(crate) fn link_or_copy(file: &File, path: &Utf8Path) -> io::Result<()> {
    let open = format!("/proc/self/fd/{}", file.as_raw_fd());
    let follow = AtFlags::SYMLINK_FOLLOW;
    if rustix::fs::linkat(CWD, open.as_str(), CWD, path.as_str(), follow).is_ok() {
        return Ok(());
    }
    copy_sparse(file, &File::create_new(path)?)
}

/// Fills a buffer from a file; zeroes where the file ends before.
pub(crate) fn read_padded(file: &File, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        match file.read_at(buffer, offset) {
            Ok(0) => {
                buffer.fill(0);
                return Ok(());
            }
            Ok(count) => {
                buffer = &mut buffer[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The mode of files that are the owner's alone.
pub(crate) const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

/// A file without a name that can be given one later, where the file system can do that.
pub(crate) fn unnamed(folder: &Utf8Path, mode: Mode) -> io::Result<File> {
    let opened = rustix::fs::open(
        folder.as_str(),
        OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC,
        mode,
    );
    if let Ok(file) = opened {
        return Ok(File::from(file));
    }
    // Some file systems have only files with names.
    for attempt in 0u32.. {
        let path = folder.join(format!(".overlay-{}-{attempt}", std::process::id()));
        let opened = rustix::fs::open(
            path.as_str(),
            OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC,
            mode,
        );
        match opened {
            Ok(file) => {
                rustix::fs::unlink(path.as_str())?;
                return Ok(File::from(file));
            }
            Err(rustix::io::Errno::EXIST) if attempt < 10_000 => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// A buffer of one block.
pub(crate) fn block_buffer() -> [u8; BLOCK as usize] {
    debug_assert_eq!(to_usize(BLOCK), 4096);
    [0; BLOCK as usize]
}
