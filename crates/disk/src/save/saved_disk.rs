//! The description of a saved disk, and the way there and back.

use super::format::Content;
use crate::base::{Base, BaseLayer, Image};
use crate::disk::Disk;
use crate::error::DiskError;
use crate::faults::{FaultTable, SavedFault};
use crate::geometry::SECTOR;
use crate::image_stamp::ImageStamp;
use crate::layers::Layers;
use crate::overlay::{SlotFile, link_or_copy};
use crate::state::{LogState, State};
use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

/// Version of the description and of the files.
const VERSION: u32 = 1;

/// Files of an overlay that a saved disk may have.
const MOST_LAYERS: usize = 16;

/// Bytes that a `map` may have.
const MOST_MAP: u64 = 512 << 20;

/// The description of a saved disk, for the manifest of what it belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedDisk {
    version: u32,
    size: u64,
    read_only: bool,
    is_on: bool,
    base: SavedBase,
    layers: usize,
    cache_limit: u64,
    log_limit: Option<u64>,
    faults: Vec<SavedFault>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SavedBase {
    Zeroes,
    /// An image that others may use, as it was.
    Image {
        path: Utf8PathBuf,
        stamp: ImageStamp,
    },
    /// The file `base`.
    Copy,
}

impl SavedDisk {
    /// Its size, bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether the guest cannot write to it.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }
}

impl Disk {
    /// Saves the disk as it is now, with its faults and with what is volatile, so that a restored disk loses that by a
    /// power cut as this one would. The folder exists and is empty. The disk can be used afterwards.
    ///
    /// Files are linked where the folder is on the file system of the scratch folder, and copied without their holes
    /// otherwise. They are not synchronised.
    ///
    /// # Errors
    /// The host cannot write the files.
    pub fn save(&self, folder: &Utf8Path) -> Result<SavedDisk, DiskError> {
        let saving = || DiskError::io("save");
        self.check_image()?;
        // The lock is held only while the copy is made, which costs no data unless the image is written in place.
        let (copy, faults) = {
            let mut state = self.0.state.write();
            let copy = state.copy(folder).map_err(saving())?;
            (copy, self.0.faults.lock().save())
        };
        let base = save_base(&copy.layers.base, folder).map_err(saving())?;
        for (number, file) in copy.layers.files.iter().enumerate() {
            file.link_or_copy(&layer(folder, number))
                .map_err(saving())?;
        }
        std::fs::write(folder.join("map"), Content::of(&copy).encode()).map_err(saving())?;
        Ok(SavedDisk {
            version: VERSION,
            size: self.0.size,
            read_only: self.0.read_only,
            is_on: copy.is_on,
            base,
            layers: copy.layers.files.len(),
            cache_limit: copy.cache_limit,
            log_limit: copy.log.map(|log| log.limit),
            faults,
        })
    }

    /// A disk as it was when it was saved.
    ///
    /// # Errors
    /// The saved disk is damaged, or of another version; the image that it uses has changed.
    pub fn restore(
        saved: &SavedDisk,
        folder: &Utf8Path,
        scratch: &Utf8Path,
        seed: u64,
    ) -> Result<Self, DiskError> {
        let damaged = |reason: String| DiskError::Damaged {
            folder: folder.to_owned(),
            reason,
        };
        if saved.version != VERSION {
            let version = saved.version;
            return Err(damaged(format!(
                "it has version {version} and not {VERSION}"
            )));
        }
        if saved.size == 0 || !saved.size.is_multiple_of(SECTOR) || saved.layers > MOST_LAYERS {
            return Err(damaged("its description has impossible sizes".to_owned()));
        }
        let reading = |source: io::Error| damaged(format!("a file cannot be read: {source}"));
        let base = restore_base(saved, folder)?;
        let mut state = State::new(Layers::new(saved.size / SECTOR, base, scratch.to_owned()));
        let mut lengths = Vec::new();
        for number in 0..saved.layers {
            let file = SlotFile::open(&layer(folder, number)).map_err(reading)?;
            lengths.push(file.length().map_err(reading)?);
            state.layers.files.push(Arc::new(file));
        }
        let map = read_bounded(&folder.join("map"), MOST_MAP).map_err(reading)?;
        let content = Content::decode(&map, state.layers.sectors, &lengths).map_err(damaged)?;
        content.into_state(&mut state);
        state.cache_limit = saved.cache_limit;
        state.is_on = saved.is_on;
        state.log = saved.log_limit.map(|limit| LogState {
            start: state.last,
            limit,
            dropped: 0,
            saved_at: Some(state.last),
        });
        let faults = FaultTable::restore(seed, &saved.faults);
        Ok(Self::with(state, saved.read_only, faults, seed))
    }
}

fn layer(folder: &Utf8Path, number: usize) -> Utf8PathBuf {
    folder.join(format!("layer-{number}"))
}

fn save_base(base: &BaseLayer, folder: &Utf8Path) -> io::Result<SavedBase> {
    let image = match base {
        BaseLayer::Zeroes => return Ok(SavedBase::Zeroes),
        BaseLayer::Image(image) | BaseLayer::InPlace(image) => image,
    };
    match &image.path {
        Some(path) => Ok(SavedBase::Image {
            path: std::path::absolute(path)
                .ok()
                .and_then(|path| Utf8PathBuf::from_path_buf(path).ok())
                .unwrap_or_else(|| path.clone()),
            stamp: match image.stamp {
                Some(stamp) => stamp,
                None => ImageStamp::of(&image.file)?,
            },
        }),
        None => {
            link_or_copy(&image.file, &folder.join("base"))?;
            Ok(SavedBase::Copy)
        }
    }
}

fn restore_base(saved: &SavedDisk, folder: &Utf8Path) -> Result<BaseLayer, DiskError> {
    let image = |path: &Utf8Path| BaseLayer::open(Base::Image(path.to_owned()), saved.size, true);
    match &saved.base {
        SavedBase::Zeroes => Ok(BaseLayer::Zeroes),
        SavedBase::Copy => match image(&folder.join("base"))? {
            // It has no name of its own: a disk that is saved again takes it along.
            BaseLayer::Image(image) => Ok(BaseLayer::Image(Arc::new(Image {
                file: image.file.try_clone().map_err(DiskError::io("open"))?,
                path: None,
                stamp: None,
            }))),
            other => Ok(other),
        },
        SavedBase::Image { path, stamp } => {
            let damaged = |reason: String| DiskError::Damaged {
                folder: folder.to_owned(),
                reason,
            };
            let opened = image(path).map_err(|error| match error {
                DiskError::Open { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                    damaged(format!("its image `{path}` does not exist any more"))
                }
                error => error,
            })?;
            if let BaseLayer::Image(image) = &opened
                && ImageStamp::of(&image.file).map_err(DiskError::io("open"))? != *stamp
            {
                let reason = format!("its image `{path}` has changed since it was saved");
                return Err(damaged(reason));
            }
            Ok(opened)
        }
    }
}

fn read_bounded(path: &Utf8Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}
