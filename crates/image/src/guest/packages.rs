//! The default guest with packages in its root.

use super::apt::is_package_name;
use super::default::{GuestDescription, write_archive};
use super::download::{names, unpack};
use super::parts::{ARCHIVE, LAYOUT};
use super::skeleton;
use super::source::PackageSource;
use crate::blocking::blocking;
use crate::disk::{DISK_FILE, DiskImage, disk_of_tree};
use crate::error::ImageError;
use crate::image::GuestImage;
use crate::images::{Images, PreparedFile, write};
use crate::progress::report;
use crate::root_image::RootPlacement;
use camino::Utf8PathBuf;
use provium_store::{KeyBuilder, Notice};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The archive's hash, and what was unpacked.
const HASH: &str = "archive.blake3";
const LIST: &str = "packages.txt";

impl Images {
    /// The default guest with packages of the distribution (names as `apt-get install` takes them)
    /// and everything that they need. Made once, then had from the cache without any network. None
    /// of their scripts is run. What is large is on a disk, unless `placement` says otherwise.
    ///
    /// # Errors
    /// [`ImageError::Packages`] if one is not available.
    pub async fn default_guest_with(
        &self,
        packages: &[String],
        placement: RootPlacement,
    ) -> Result<GuestImage, ImageError> {
        if packages.is_empty() {
            return self.default_guest().await;
        }
        if let Some(name) = packages.iter().find(|name| !is_package_name(name)) {
            return Err(ImageError::BadPackageName { name: name.clone() });
        }
        let wanted: Vec<String> = packages
            .iter()
            .cloned()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        let base = self.default_entry().await?;
        let about = GuestDescription::read(&base)?;
        let mut key = KeyBuilder::new("guest with packages")
            .with_number("layout", LAYOUT)
            .with("base", about.archive.as_str());
        for name in &wanted {
            key = key.with("package", name);
        }
        if placement != RootPlacement::Memory {
            key = key.with("placement", format!("{placement:?}"));
        }
        let (_, modules) = self.guest_kernel(&base).await?;
        let what = format!("the guest with {}", wanted.join(", "));
        let progress = &self.progress;
        let notify = |notice: Notice<'_>| report(&**progress, &what, notice);
        let guest = Arc::clone(&base);
        let make = async |folder: Utf8PathBuf| {
            let downloads = folder.join("packages");
            let mut source = PackageSource::set_up(downloads.clone(), progress)?;
            progress.step("fetching the lists of packages");
            let failed = |error: ImageError, source: &PackageSource| match error {
                error @ ImageError::Store(_) => error,
                error => ImageError::Packages {
                    packages: wanted.join(", "),
                    why: source.explain(&error.in_one_line()),
                },
            };
            let updated = source.update().await;
            updated.map_err(|error| failed(error, &source))?;
            progress.step(&format!(
                "downloading {} with all dependencies",
                wanted.join(", ")
            ));
            let files = source.download_with_needed(&wanted).await;
            let files = files.map_err(|error| failed(error, &source))?;
            progress.step(&format!("unpacking {} packages", files.len()));
            let entry = folder.clone();
            let modules = modules.map(|(index, _)| index);
            let large = blocking(move || {
                let mut tree = skeleton::start()?;
                for file in &files {
                    unpack(&mut tree, file)?;
                }
                fs_err::remove_dir_all(&downloads).map_err(provium_store::StoreError::from)?;
                skeleton::finish(&mut tree, &about.busybox(&guest)?, &about.kernel_release())?;
                write(&folder.join(LIST), names(&files).join("\n").as_bytes())?;
                if placement.is_disk(tree.content_len(), modules.as_ref()) {
                    return Ok(Some(tree));
                }
                let hash = write_archive(&tree, &folder.join(ARCHIVE))?;
                write(&folder.join(HASH), hash.as_str().as_bytes())?;
                Ok(None)
            })
            .await?;
            match large {
                Some(tree) => {
                    progress.step("making a file system of the packages");
                    disk_of_tree(tree, &entry).await
                }
                None => Ok(()),
            }
        };
        let key = key.finish();
        let entry = self
            .guests
            .get_or_build::<ImageError, _>(&key, &notify, make)
            .await?;
        if !entry.file(HASH).is_file() {
            let disk = DiskImage::in_entry(entry, DISK_FILE, &key)?;
            return self.guest_on(base, disk).await;
        }
        let path = entry.file(HASH);
        let text = std::fs::read_to_string(&path).map_err(|source| ImageError::Read {
            path: path.clone(),
            source,
        })?;
        let hash = provium_store::Key::parse(&text).ok_or_else(|| ImageError::Bug {
            what: format!("the cache's own `{path}` holds no hash"),
        })?;
        let archive = PreparedFile {
            path: entry.file(ARCHIVE),
            given: entry.file(ARCHIVE),
            hash,
            held: vec![Arc::new(entry)],
            release: None,
        };
        self.guest_with(base, archive).await
    }
}
