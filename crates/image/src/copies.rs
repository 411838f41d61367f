//! Copies of files that guests boot from unchanged, for files that may be replaced meanwhile.
//!
//! A build command of another run may remove the kernel that this run has prepared, or write it again, while
//! VMs still boot from it. The copy has the content that the image's id is made of. What is unpacked is in the
//! cache anyway.

use crate::blocking::blocking;
use crate::error::ImageError;
use camino::Utf8PathBuf;
use provium_store::{Bucket, Cache, CacheEntry, Key, Notice, StoreError};
use std::sync::Arc;

/// The version of the bucket's layout.
const COPIES: u32 = 1;

/// The file in an entry.
const FILE: &str = "file";

/// Where copies are kept.
#[derive(Debug)]
pub(crate) struct Copies(Bucket);

impl Copies {
    pub(crate) fn open(cache: &Cache) -> Result<Self, StoreError> {
        cache.bucket("copies", COPIES).map(Self)
    }

    /// The copy of the file that has these `bytes` and this `hash`, and the entry that it is in.
    pub(crate) async fn copy(
        &self,
        hash: &Key,
        bytes: Arc<Vec<u8>>,
        notify: &(dyn Fn(Notice<'_>) + Send + Sync),
    ) -> Result<(Utf8PathBuf, CacheEntry), ImageError> {
        let make = |folder: Utf8PathBuf| {
            blocking(move || {
                let written = fs_err::write(folder.join(FILE), bytes.as_slice());
                written.map_err(|error| StoreError::from(error).into())
            })
        };
        let entry = self.0.get_or_build::<ImageError, _>(hash, notify, make);
        let entry = entry.await?;
        Ok((entry.file(FILE), entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress::tests::gzip_of;
    use crate::elf::tests::kernel;
    use crate::images::Images;
    use crate::kernel::around;
    use crate::progress::SilentProgress;
    use camino::Utf8Path;

    #[tokio::test]
    async fn a_file_that_is_replaced_still_boots_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap();
        let images = Images::open(&path.join("cache"), Arc::new(SilentProgress)).unwrap();
        let images = images.copying_files().unwrap();
        let (plain, packed) = (path.join("vmlinux"), path.join("bzImage"));
        let bzimage = around(&gzip_of(&kernel(true)));
        fs_err::write(&plain, kernel(true)).unwrap();
        fs_err::write(&packed, &bzimage).unwrap();
        let plain_image = images.from_files(&plain, None).await.unwrap();
        let packed_image = images.from_files(&packed, None).await.unwrap();
        fs_err::write(&plain, "half of a kernel").unwrap();
        fs_err::remove_file(&packed).unwrap();
        assert_eq!(fs_err::read(&plain_image.kernel).unwrap(), kernel(true));
        assert_eq!(plain_image.clone().as_given().id, plain_image.id);
        assert_eq!(fs_err::read(&packed_image.kernel).unwrap(), kernel(true));
        assert_eq!(
            fs_err::read(packed_image.as_given().kernel).unwrap(),
            bzimage
        );
    }
}
