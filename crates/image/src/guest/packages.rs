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
use crate::modules::ModuleIndex;
use crate::progress::{Progress, report};
use crate::root_image::RootPlacement;
use crate::tree::Tree;
use camino::Utf8PathBuf;
use provium_store::{CacheEntry, Key, KeyBuilder, Notice};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The archive's hash, and what was unpacked.
const HASH: &str = "archive.blake3";
const LIST: &str = "packages.txt";

impl Images {
    /// The default guest with packages of the distribution (names as `apt-get install` takes them)
    /// and everything that they need. Made once, then taken from the cache without any network. None
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
        let base = self.default_entry().await?;
        let (_, modules) = self.guest_kernel(&base).await?;
        let recipe = Recipe {
            packages: packages.iter().cloned().collect(),
            about: GuestDescription::read(&base)?,
            base: Arc::clone(&base),
            modules: modules.map(|(index, _)| index),
            placement,
        };
        let key = recipe.key();
        let what = format!("the guest with {}", recipe.names());
        let progress = &self.progress;
        let notify = |notice: Notice<'_>| report(&**progress, &what, notice);
        let build = async |folder| recipe.build(folder, progress).await;
        let entry = self
            .guests
            .get_or_build::<ImageError, _>(&key, &notify, build)
            .await?;
        if entry.file(HASH).is_file() {
            self.guest_with(base, archive_of(entry)?).await
        } else {
            let disk = DiskImage::in_entry(entry, DISK_FILE, &key)?;
            self.guest_on(base, disk).await
        }
    }
}

/// What a guest with packages is made of.
struct Recipe {
    packages: BTreeSet<String>,
    /// The default guest, with its description.
    base: Arc<CacheEntry>,
    about: GuestDescription,
    modules: Option<ModuleIndex>,
    placement: RootPlacement,
}

impl Recipe {
    fn key(&self) -> Key {
        let mut key = KeyBuilder::new("guest with packages")
            .with_number("layout", LAYOUT)
            .with("base", self.about.archive.as_str());
        for name in &self.packages {
            key = key.with("package", name);
        }
        if self.placement != RootPlacement::Memory {
            key = key.with("placement", format!("{:?}", self.placement));
        }
        key.finish()
    }

    /// The packages, for messages.
    fn names(&self) -> String {
        let names: Vec<&str> = self.packages.iter().map(String::as_str).collect();
        names.join(", ")
    }

    /// Fills an entry of the cache: with an archive and its hash, or with a disk.
    async fn build(
        self,
        folder: Utf8PathBuf,
        progress: &Arc<dyn Progress>,
    ) -> Result<(), ImageError> {
        let downloads = folder.join("packages");
        let mut source = PackageSource::set_up(downloads.clone(), progress)?;
        let files = match self.download(&mut source, &**progress).await {
            Ok(files) => files,
            Err(error @ ImageError::Store(_)) => return Err(error),
            Err(error) => {
                return Err(ImageError::Packages {
                    packages: self.names(),
                    why: source.explain(&error.in_one_line()),
                });
            }
        };
        progress.step(&format!("unpacking {} packages", files.len()));
        let entry = folder.clone();
        let large = blocking(move || {
            let tree = self.unpack(&files)?;
            fs_err::remove_dir_all(&downloads).map_err(provium_store::StoreError::from)?;
            write(&folder.join(LIST), names(&files).join("\n").as_bytes())?;
            if (self.placement).is_disk(tree.content_len(), self.modules.as_ref()) {
                return Ok(Some(tree));
            }
            let hash = write_archive(&tree, &folder.join(ARCHIVE))?;
            write(&folder.join(HASH), hash.as_str().as_bytes())?;
            Ok(None)
        });
        match large.await? {
            Some(tree) => {
                progress.step("making a file system of the packages");
                disk_of_tree(tree, &entry).await
            }
            None => Ok(()),
        }
    }

    /// Downloads the packages and everything that they need; gives their files.
    async fn download(
        &self,
        source: &mut PackageSource,
        progress: &dyn Progress,
    ) -> Result<Vec<Utf8PathBuf>, ImageError> {
        progress.step("fetching the lists of packages");
        source.update().await?;
        let names = self.names();
        progress.step(&format!("downloading {names} with all dependencies"));
        let packages: Vec<String> = self.packages.iter().cloned().collect();
        source.download_with_needed(&packages).await
    }

    /// The root with the content of the packages.
    fn unpack(&self, files: &[Utf8PathBuf]) -> Result<Tree, ImageError> {
        let mut tree = skeleton::start()?;
        for file in files {
            unpack(&mut tree, file)?;
        }
        let busybox = self.about.busybox(&self.base)?;
        skeleton::finish(&mut tree, &busybox, &self.about.kernel_release())?;
        Ok(tree)
    }
}

/// The archive of a guest that is not on a disk.
fn archive_of(entry: CacheEntry) -> Result<PreparedFile, ImageError> {
    let path = entry.file(HASH);
    let text = std::fs::read_to_string(&path).map_err(|source| ImageError::Read {
        path: path.clone(),
        source,
    })?;
    let hash = Key::parse(&text).ok_or_else(|| ImageError::Bug {
        what: format!("the cache's own `{path}` holds no hash"),
    })?;
    Ok(PreparedFile {
        path: entry.file(ARCHIVE),
        given: entry.file(ARCHIVE),
        hash,
        held: vec![Arc::new(entry)],
        release: None,
    })
}
