//! What is on a disk of a VM: it exists whether or not a machine uses it.

use crate::disk::options::{DiskOptions, DiskSource};
use crate::disk::scratch::DiskScratch;
use camino::{Utf8Path, Utf8PathBuf};
use provium_disk::{Base, Disk, DiskError, DiskService, DiskSpec, SavedDisk, image_size};
use provium_image::{FolderDiskOptions, ImageError, Images};
use provium_store::StoreError;
use std::io;
use std::sync::Arc;

/// The content of a disk. Clones are the same disk.
#[derive(Debug, Clone)]
pub(crate) struct Volume {
    /// It is dropped before its folder.
    disk: Disk,
    scratch: Arc<DiskScratch>,
}

/// Why a disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error("cannot prepare its image")]
    Image(#[from] ImageError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("the host cannot keep its data")]
    Host(#[from] io::Error),
    #[error("the cache cannot keep its data")]
    Cache(#[from] StoreError),
    #[error("no machine can boot in this environment")]
    NoMachines,
}

impl Volume {
    /// The disk that its author describes, new.
    pub(crate) async fn open(
        options: &DiskOptions,
        images: &Images,
        scratch: &Arc<DiskScratch>,
        seed: u64,
    ) -> Result<Self, VolumeError> {
        let (base, size) = match &options.source {
            DiskSource::Scratch { size } => (Base::Zeroes, Some(*size)),
            DiskSource::Path(path) if options.read_only => (Base::Image(path.clone()), None),
            DiskSource::Path(path) => (Base::InPlace(path.clone()), None),
            DiskSource::Template(path) => (Base::Image(images.raw_of(path).await?.path), None),
            DiskSource::Folder(path) => {
                let image = images.disk_of_folder(path, FolderDiskOptions::default());
                (Base::Image(image.await?.path), None)
            }
        };
        Self::of_base(base, size, options.read_only, scratch, seed)
    }

    /// A copy-on-write copy of a raw image.
    pub(crate) fn of_image(
        image: Utf8PathBuf,
        scratch: &Arc<DiskScratch>,
        seed: u64,
    ) -> Result<Self, VolumeError> {
        Self::of_base(Base::Image(image), None, false, scratch, seed)
    }

    fn of_base(
        base: Base,
        size: Option<u64>,
        read_only: bool,
        scratch: &Arc<DiskScratch>,
        seed: u64,
    ) -> Result<Self, VolumeError> {
        let size = match (&base, size) {
            (_, Some(size)) => size,
            (Base::Image(path) | Base::InPlace(path), None) => image_size(path)?,
            (Base::Zeroes, None) => 0,
        };
        let spec = DiskSpec {
            size,
            base,
            read_only,
            scratch: scratch.part()?,
            seed,
        };
        Ok(Self {
            disk: Disk::open(spec)?,
            scratch: Arc::clone(scratch),
        })
    }

    /// A disk of its own that exists already.
    pub(crate) fn of_disk(disk: Disk, scratch: &Arc<DiskScratch>) -> Self {
        let scratch = Arc::clone(scratch);
        Self { disk, scratch }
    }

    /// A disk as it was saved in `folder`.
    pub(crate) fn restore(
        saved: &SavedDisk,
        folder: &Utf8Path,
        scratch: &Arc<DiskScratch>,
        seed: u64,
    ) -> Result<Self, VolumeError> {
        Ok(Self {
            disk: Disk::restore(saved, folder, &scratch.part()?, seed)?,
            scratch: Arc::clone(scratch),
        })
    }

    /// An independent copy of what it is now.
    pub(crate) fn fork(&self, scratch: &Arc<DiskScratch>) -> Result<Self, VolumeError> {
        Ok(Self {
            disk: self.disk.fork(&scratch.part()?)?,
            scratch: Arc::clone(scratch),
        })
    }

    /// The disk itself.
    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Serves it at a new socket, whose path is given, too.
    pub(crate) fn serve(&self, name: &str) -> io::Result<(DiskService, Utf8PathBuf)> {
        let socket = self.scratch.socket()?;
        let service = DiskService::start(Arc::new(self.disk.clone()), name, &socket)?;
        Ok((service, socket))
    }
}

/// The seed of what is left to chance on a disk, in a run of this seed.
pub(crate) fn disk_seed(run: u64, file: &str, vm: &str, disk: &str) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key("provium 2026 seed of a disk");
    hasher.update(&run.to_le_bytes());
    for name in [file, vm, disk] {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
    }
    let mut seed = [0; 8];
    hasher.finalize_xof().fill(&mut seed);
    u64::from_le_bytes(seed)
}
