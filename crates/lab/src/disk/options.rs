//! The options of a disk.

use crate::inputs::Recorder;
use camino::Utf8PathBuf;
use provium_image::{ImageError, Images};
use provium_vmm::DiskDevice;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A disk as its author describes it. It is kept with the options of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskOptions {
    /// Its name in calls and under `/dev/disk/by-id`; `None`: `disk0`, `disk1`… by its place among the VM's disks.
    pub id: Option<String>,
    /// What is on it.
    pub source: DiskSource,
    /// Whether the guest can only read it.
    pub read_only: bool,
    /// Where the guest mounts it.
    pub mount: Option<String>,
    /// Its file system, for the mount; `None`: the one that is on it.
    pub filesystem: Option<String>,
}

/// What is on a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskSource {
    /// Zeroes, thin: it takes space as it is written.
    Scratch {
        /// Bytes, a multiple of 512.
        size: u64,
    },
    /// A raw image, which is changed in place.
    Path(Utf8PathBuf),
    /// An image, raw or qcow2, of which the VM gets a copy-on-write copy.
    Template(Utf8PathBuf),
    /// A file system with the content of this folder of the host.
    Folder(Utf8PathBuf),
}

impl DiskOptions {
    /// A disk of that source, with default options.
    pub fn new(source: DiskSource) -> Self {
        Self {
            id: None,
            source,
            read_only: false,
            mount: None,
            filesystem: None,
        }
    }

    /// The name of a file system's type, for [`Self::filesystem`]. Which types there are is up to the guest's kernel.
    ///
    /// # Errors
    /// Why it cannot be the name of any.
    pub fn filesystem_type(text: &str) -> Result<String, String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if text.is_empty() || !text.chars().all(is_plain) {
            return Err(format!(
                "must be the name of a type of file systems, such as \"ext4\", got {text:?}"
            ));
        }
        Ok(text.to_owned())
    }

    /// A copy-on-write copy of an image.
    pub(crate) fn template(image: Utf8PathBuf) -> Self {
        Self::new(DiskSource::Template(image))
    }
}

impl DiskSource {
    /// Makes the image that the cache does not have yet, so that the boot does not have to.
    pub(crate) async fn prepare(&self, images: &Images) -> Result<(), ImageError> {
        match self {
            Self::Template(path) => images.raw_of(path).await.map(drop),
            Self::Folder(path) => images.disk_of_folder(path).await.map(drop),
            Self::Scratch { .. } | Self::Path(_) => Ok(()),
        }
    }

    /// Records what the build of a fixture reads of the host when it uses the disk. An image that is changed in place
    /// is an input as it is now.
    pub(crate) fn record(&self, recorder: &Recorder) {
        match self {
            Self::Scratch { .. } => {}
            Self::Path(path) | Self::Template(path) => recorder.file(path),
            Self::Folder(path) => recorder.tree(path),
        }
    }
}

/// The name of a disk, which no other disk of its VM has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiskId(String);

impl DiskId {
    /// Longest name, bytes.
    const LONGEST: usize = 200;

    /// A name that an author chose.
    ///
    /// # Errors
    /// Why it cannot be a name.
    pub fn new(text: &str) -> Result<Self, String> {
        let is_plain = |c: char| !c.is_control() && c != '/';
        match text {
            "" => Err("a disk's `id` cannot be empty".to_owned()),
            _ if text.len() > Self::LONGEST => Err(format!(
                "a disk's `id` can have at most {} bytes, got {}",
                Self::LONGEST,
                text.len()
            )),
            _ if !text.chars().all(is_plain) => Err(format!(
                "a disk's `id` cannot hold `/` or control characters, as {text:?} does"
            )),
            _ => Ok(Self(text.to_owned())),
        }
    }

    /// The name of the disk at that place of a list, where its author gave none.
    pub fn by_place(place: usize) -> Self {
        Self(format!("disk{place}"))
    }

    /// A name of the harness's own.
    pub(crate) fn by_name(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The device's serial in the guest: the name, if it is valid as a serial, and otherwise its valid part
    /// with a hash that distinguishes such names.
    pub fn serial(&self) -> String {
        let is_valid = DiskDevice::is_of_serial;
        if self.0.len() <= DiskDevice::LONGEST_SERIAL && self.0.chars().all(is_valid) {
            return self.0.clone();
        }
        let hash = blake3::hash(self.0.as_bytes()).to_hex();
        let valid: String = self.0.chars().filter(|c| is_valid(*c)).take(11).collect();
        format!("{valid}-{}", &hash[..8])
    }
}

impl fmt::Display for DiskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_is_the_id_if_that_is_valid() {
        let serial = |id: &str| DiskId::new(id).unwrap().serial();
        assert_eq!(serial("data"), "data");
        assert_eq!(serial("a_b.c-d"), "a_b.c-d");
        assert_eq!(serial("twenty-bytes-exactly"), "twenty-bytes-exactly");
        for id in ["two words", "twenty-one-bytes-long", "ümlaut", "…"] {
            let serial = serial(id);
            assert!(serial.len() <= DiskDevice::LONGEST_SERIAL, "{serial}");
            assert!(serial.is_ascii(), "{serial}");
        }
        assert_ne!(serial("two words"), serial("two  words"));
    }

    #[test]
    fn an_id_is_a_name() {
        for id in ["", "a/b", "a\nb", &"x".repeat(201)] {
            assert!(DiskId::new(id).is_err(), "{id:?}");
        }
        assert_eq!(DiskId::by_place(2).as_str(), "disk2");
    }
}
