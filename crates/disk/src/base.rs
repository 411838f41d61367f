//! The layer below the overlay.

use crate::error::DiskError;
use crate::geometry::SECTOR;
use crate::image_stamp::ImageStamp;
use crate::overlay::read_padded;
use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{FlockOperation, OFlags, flock};
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt as _, OpenOptionsExt as _};
use std::sync::Arc;

/// Where a disk begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Zeroes.
    Zeroes,
    /// A raw image that is never written to: changes are in the overlay. Several disks can use it.
    Image(Utf8PathBuf),
    /// A raw image that has what is durable. It is locked, so that only one disk uses it.
    InPlace(Utf8PathBuf),
}

/// An open base.
#[derive(Debug, Clone)]
pub(crate) enum BaseLayer {
    Zeroes,
    Image(Arc<Image>),
    InPlace(Arc<Image>),
}

/// An open image.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) file: File,
    /// None for a copy without a name.
    pub(crate) path: Option<Utf8PathBuf>,
    /// As it was when it was opened, if nothing may write to it.
    pub(crate) stamp: Option<ImageStamp>,
}

/// Bytes of an image, padded to whole sectors: the size of the disk that shows all of it.
///
/// # Errors
/// The image cannot be opened, or is not raw.
pub fn image_size(path: &Utf8Path) -> Result<u64, DiskError> {
    let file = open(path, false)?;
    let length = length(&file).map_err(|source| opening(path, source))?;
    Ok(length.next_multiple_of(SECTOR))
}

impl BaseLayer {
    /// Opens and locks it.
    pub(crate) fn open(base: Base, size: u64, read_only: bool) -> Result<Self, DiskError> {
        let (path, in_place) = match base {
            Base::Zeroes => return Ok(Self::Zeroes),
            Base::Image(path) => (path, false),
            Base::InPlace(path) => (path, !read_only),
        };
        let file = open(&path, in_place)?;
        let operation = if in_place {
            FlockOperation::NonBlockingLockExclusive
        } else {
            FlockOperation::NonBlockingLockShared
        };
        // An image on a file system without locks is accepted.
        if flock(&file, operation) == Err(rustix::io::Errno::WOULDBLOCK) {
            return Err(DiskError::InUse { path });
        }
        let image = length(&file).map_err(|source| opening(&path, source))?;
        if image.next_multiple_of(SECTOR) > size {
            return Err(DiskError::ImageTooLarge { path, image, size });
        }
        let stamp = match in_place {
            true => None,
            false => Some(ImageStamp::of(&file).map_err(|source| opening(&path, source))?),
        };
        let image = Arc::new(Image {
            file,
            path: Some(path),
            stamp,
        });
        Ok(if in_place {
            Self::InPlace(image)
        } else {
            Self::Image(image)
        })
    }

    /// Reads bytes; zeroes after the end of an image.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Zeroes => {
                buffer.fill(0);
                Ok(())
            }
            Self::Image(image) | Self::InPlace(image) => read_padded(&image.file, offset, buffer),
        }
    }

    /// Fails if something has written to an image that nothing may write to.
    pub(crate) fn check(&self) -> Result<(), DiskError> {
        let Self::Image(image) = self else {
            return Ok(());
        };
        let (Some(path), Some(stamp)) = (&image.path, image.stamp) else {
            return Ok(());
        };
        match ImageStamp::of(&image.file) {
            Ok(now) if now == stamp => Ok(()),
            Ok(_) => Err(DiskError::ImageChanged { path: path.clone() }),
            Err(source) => Err(opening(path, source)),
        }
    }

    /// The image that has what is durable.
    pub(crate) fn in_place(&self) -> Option<&Arc<Image>> {
        match self {
            Self::InPlace(image) => Some(image),
            Self::Zeroes | Self::Image(_) => None,
        }
    }
}

fn open(path: &Utf8Path, write: bool) -> Result<File, DiskError> {
    // Without this flag, a FIFO is opened when something writes to it, which may be never.
    let file = File::options()
        .read(true)
        .write(write)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(|source| opening(path, source))?;
    let data = file.metadata().map_err(|source| opening(path, source))?;
    if !data.is_file() && !data.file_type().is_block_device() {
        let path = path.to_owned();
        return Err(DiskError::NotAnImage { path });
    }
    match other_format(&file) {
        Some(format) => Err(DiskError::NotRaw {
            path: path.to_owned(),
            format,
        }),
        None => Ok(file),
    }
}

/// The format of an image by its first bytes, where that is not raw.
fn other_format(file: &File) -> Option<&'static str> {
    let mut magic = [0; 8];
    file.read_exact_at(&mut magic, 0).ok()?;
    match &magic {
        [b'Q', b'F', b'I', 0xfb, ..] => Some("qcow2"),
        b"vhdxfile" => Some("VHDX"),
        [b'K', b'D', b'M', b'V', ..] => Some("VMDK"),
        _ => None,
    }
}

/// Bytes of a file or a block device.
fn length(mut file: &File) -> io::Result<u64> {
    file.seek(SeekFrom::End(0))
}

fn opening(path: &Utf8Path, source: io::Error) -> DiskError {
    DiskError::Open {
        path: path.to_owned(),
        source,
    }
}
