//! The content of a disk of a VM. It exists whether or not a machine uses it.

use crate::disk::options::{DiskOptions, DiskSource};
use crate::disk::scratch::DiskScratch;
use camino::{Utf8Path, Utf8PathBuf};
use provium_disk::{Base, Disk, DiskError, DiskService, DiskSpec, SECTOR, SavedDisk, image_size};
use provium_image::{DiskImage, ImageError, Images, filesystem_of};
use provium_store::StoreError;
use provium_vmm::GuestEndWatch;
use std::io;
use std::sync::Arc;

/// The content of a disk. Clones are the same disk.
#[derive(Debug, Clone)]
pub(crate) struct Volume {
    /// It is dropped before its folder.
    disk: Disk,
    scratch: Arc<DiskScratch>,
    /// The cache keeps it as long as this exists.
    image: Option<DiskImage>,
}

/// The service of a disk that no QEMU uses yet.
pub(crate) struct OfferedDisk {
    service: DiskService,
    socket: Utf8PathBuf,
}

/// Why a disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error("cannot prepare its image")]
    Image(#[from] ImageError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("the host cannot store its data")]
    Host(#[from] io::Error),
    #[error("the cache cannot store its data")]
    Cache(#[from] StoreError),
    #[error("no machine can boot in this environment")]
    NoMachines,
}

impl VolumeError {
    /// Whether it is about a saved disk, which is damaged, or whose image has changed.
    pub(crate) fn is_of_saved_state(&self) -> bool {
        matches!(self, Self::Disk(DiskError::Damaged { .. }))
    }
}

impl Volume {
    /// A new disk with these options.
    pub(crate) async fn open(
        options: &DiskOptions,
        images: &Images,
        scratch: &Arc<DiskScratch>,
        seed: u64,
    ) -> Result<Self, VolumeError> {
        let read_only = options.read_only;
        let image = match &options.source {
            DiskSource::Scratch { size } => {
                return Self::of_base(Base::Zeroes, *size, read_only, scratch, seed);
            }
            DiskSource::Path(path) => {
                let (size, path) = (image_size(path)?, path.clone());
                let base = match read_only {
                    true => Base::Image(path),
                    false => Base::InPlace(path),
                };
                return Self::of_base(base, size, read_only, scratch, seed);
            }
            DiskSource::Template(path) => images.raw_of(path).await?,
            DiskSource::Folder(path) => images.disk_of_folder(path).await?,
        };
        Self::of_image(image, read_only, scratch, seed)
    }

    /// A copy-on-write copy of an image of the cache.
    pub(crate) fn of_image(
        image: DiskImage,
        read_only: bool,
        scratch: &Arc<DiskScratch>,
        seed: u64,
    ) -> Result<Self, VolumeError> {
        let base = Base::Image(image.path.clone());
        let volume = Self::of_base(base, image.size, read_only, scratch, seed)?;
        Ok(Self {
            image: Some(image),
            ..volume
        })
    }

    fn of_base(
        base: Base,
        size: u64,
        read_only: bool,
        scratch: &Arc<DiskScratch>,
        seed: u64,
    ) -> Result<Self, VolumeError> {
        let spec = DiskSpec {
            size,
            base,
            read_only,
            scratch: scratch.part()?,
            seed,
        };
        let disk = Disk::open(spec)?;
        // It costs nothing until blocks are overwritten, and a test may ask for what was written at any time.
        disk.record_log(!read_only)?;
        Ok(Self {
            disk,
            scratch: Arc::clone(scratch),
            image: None,
        })
    }

    /// A disk of its own that exists already.
    pub(crate) fn of_disk(disk: Disk, scratch: &Arc<DiskScratch>) -> Self {
        Self {
            disk,
            scratch: Arc::clone(scratch),
            image: None,
        }
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
            image: None,
        })
    }

    /// An independent copy of what it is now.
    pub(crate) fn fork(&self, scratch: &Arc<DiskScratch>) -> Result<Self, VolumeError> {
        Ok(Self {
            disk: self.disk.fork(&scratch.part()?)?,
            scratch: Arc::clone(scratch),
            image: self.image.clone(),
        })
    }

    /// The disk itself.
    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// The file system that is on it now, as Linux calls it; `None`: none that is known.
    pub(crate) fn filesystem(&self) -> Option<&'static str> {
        let found = filesystem_of(|at, buffer| {
            let end = at + buffer.len() as u64;
            if end > self.disk.size() {
                return Ok(false);
            }
            let (first, skip) = (
                at / SECTOR,
                usize::try_from(at % SECTOR).unwrap_or_default(),
            );
            let sectors = self
                .disk
                .read_sectors(first, end.div_ceil(SECTOR) - first)?;
            buffer.copy_from_slice(&sectors[skip..skip + buffer.len()]);
            Ok::<_, DiskError>(true)
        });
        // The guest cannot read it either, and says so.
        found.ok().flatten()
    }

    /// Whether it may have a partition table: any that is in use today begins in the first sector, which holds nothing
    /// in a new disk and in most file systems.
    pub(crate) fn may_have_partitions(&self) -> bool {
        match self.disk.read_sectors(0, 1) {
            Ok(sector) => sector.iter().any(|byte| *byte != 0),
            Err(_) => true,
        }
    }

    /// Serves it at a new socket.
    pub(crate) fn serve(&self, name: &str, guest: GuestEndWatch) -> io::Result<OfferedDisk> {
        let socket = self.scratch.socket()?;
        let service = DiskService::start(Arc::new(self.disk.clone()), name, &socket)?;
        service.watch_guest(move || guest.has_ended());
        Ok(OfferedDisk { service, socket })
    }
}

impl OfferedDisk {
    /// Where QEMU connects.
    pub(crate) fn socket(&self) -> &Utf8Path {
        &self.socket
    }

    /// The service, once QEMU has connected, which does not need the name any more.
    pub(crate) fn connected(self) -> DiskService {
        // A killed run leaves no socket. The service itself does not expect it to be there.
        let _ = fs_err::remove_file(&self.socket);
        self.service
    }
}

/// The seed for the random choices of a disk, in a run with the seed `run`.
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
