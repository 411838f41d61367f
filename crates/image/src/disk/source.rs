//! What an image of a disk in the cache was made of, for listings: `source.json` in its entry.

use crate::error::ImageError;
use crate::images::DISKS;
use camino::Utf8Path;
use provium_store::{Bucket, Cache, StoreError};
use serde::{Deserialize, Serialize};
use std::time::SystemTime;

/// The name of the file.
const FILE: &str = "source.json";

/// What an image was made of. Read leniently, since it is for people: an entry may lack it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageSource {
    /// What it is: `qcow2`, `folder` or `archive`.
    pub kind: String,
    /// Its path on the host.
    pub path: String,
}

impl ImageSource {
    /// The images of disks in a cache.
    ///
    /// # Errors
    /// When the cache's folder cannot be used.
    pub fn images(cache: &Cache) -> Result<Bucket, StoreError> {
        cache.bucket("disks", DISKS)
    }

    /// That of the image in the folder of an entry.
    pub fn read(entry: &Utf8Path) -> Self {
        let text = std::fs::read(entry.join(FILE)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// When the image in the folder of an entry was made; `None` for one without a description.
    pub fn written(entry: &Utf8Path) -> Option<SystemTime> {
        std::fs::metadata(entry.join(FILE)).ok()?.modified().ok()
    }

    /// Writes it into the folder of a new entry.
    pub(super) fn write(kind: &str, path: &Utf8Path, entry: &Utf8Path) -> Result<(), ImageError> {
        let source = Self {
            kind: kind.to_owned(),
            path: path.to_string(),
        };
        // Strings always serialise.
        let text = serde_json::to_vec(&source).unwrap_or_default();
        fs_err::write(entry.join(FILE), text).map_err(StoreError::from)?;
        Ok(())
    }
}
