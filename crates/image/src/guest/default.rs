//! The default guest's entry in the cache, and the image of it.

use super::busybox;
use super::parts::{ARCHIVE, GuestParts, KERNEL, LAYOUT};
use super::skeleton::{self, Busybox, Release};
use super::{download, host};
use crate::blocking::blocking;
use crate::disk::DiskImage;
use crate::error::ImageError;
use crate::image::GuestImage;
use crate::images::{INDEX, Images, PreparedFile, assemble, read_index, write};
use crate::modules::ModuleIndex;
use crate::progress::report;
use crate::root_image::assemble_on_disk;
use camino::{Utf8Path, Utf8PathBuf};
use provium_process::{Command, Exit, output};
use provium_store::{CacheEntry, Key, KeyBuilder, Notice};
use serde::{Deserialize, Serialize};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

/// Files of the entry that only this module uses.
const BUSYBOX: &str = "busybox";
const ABOUT: &str = "about.json";

/// How long busybox may take to list its applets.
const APPLETS_DEADLINE: Duration = Duration::from_secs(20);

/// The description of an entry's guest, stored with it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct GuestDescription {
    pub(super) release: String,
    pub(super) builtin: Option<String>,
    applets: Vec<String>,
    modules_folder: Option<Utf8PathBuf>,
    packages: Vec<String>,
    /// Hash of the archive.
    pub(super) archive: Key,
}

impl GuestDescription {
    pub(super) fn read(entry: &CacheEntry) -> Result<Self, ImageError> {
        let path = entry.file(ABOUT);
        let text = std::fs::read(&path).map_err(|source| ImageError::Read { path, source })?;
        serde_json::from_slice(&text).map_err(|error| ImageError::Bug {
            what: format!(
                "the cache's own `{}` is not readable: {error}",
                entry.file(ABOUT)
            ),
        })
    }

    pub(super) fn busybox(&self, entry: &CacheEntry) -> Result<Busybox, ImageError> {
        let path = entry.file(BUSYBOX);
        let program = std::fs::read(&path).map_err(|source| ImageError::Read { path, source })?;
        Ok(Busybox {
            program,
            applets: self.applets.clone(),
        })
    }

    pub(super) fn kernel_release(&self) -> Release {
        let builtin = self.builtin.as_ref().map(|text| text.clone().into_bytes());
        Release {
            name: self.release.clone(),
            builtin,
        }
    }
}

impl Images {
    /// The default guest: a stock kernel and busybox. It is made once, by a download or from files of
    /// this host, and taken from the cache without a network afterwards.
    ///
    /// # Errors
    /// [`ImageError::NoDefaultGuest`] with what was tried.
    pub async fn default_guest(&self) -> Result<GuestImage, ImageError> {
        let entry = self.default_entry().await?;
        self.guest_of(entry).await
    }

    /// The default guest if it is in the cache; `None` if it would have to be made.
    ///
    /// # Errors
    /// If the cache cannot be read.
    pub async fn cached_default_guest(&self) -> Result<Option<GuestImage>, ImageError> {
        match self.cached_default().await? {
            Some(entry) => self.guest_of(Arc::new(entry)).await.map(Some),
            None => Ok(None),
        }
    }

    async fn guest_of(&self, entry: Arc<CacheEntry>) -> Result<GuestImage, ImageError> {
        let archive = PreparedFile {
            path: entry.file(ARCHIVE),
            given: entry.file(ARCHIVE),
            hash: GuestDescription::read(&entry)?.archive,
            held: vec![Arc::clone(&entry)],
            release: None,
        };
        self.guest_with(entry, archive).await
    }

    /// An image of the default guest's kernel and modules and that archive.
    pub(super) async fn guest_with(
        &self,
        entry: Arc<CacheEntry>,
        archive: PreparedFile,
    ) -> Result<GuestImage, ImageError> {
        let (kernel, modules) = self.guest_kernel(&entry).await?;
        let mut image = assemble(kernel, vec![archive], modules, init());
        image.held.push(entry);
        Ok(image)
    }

    /// An image of the default guest's kernel and modules whose root is that disk.
    pub(super) async fn guest_on(
        &self,
        entry: Arc<CacheEntry>,
        disk: DiskImage,
    ) -> Result<GuestImage, ImageError> {
        let (kernel, modules) = self.guest_kernel(&entry).await?;
        let mut image = assemble_on_disk(kernel, modules, disk, init());
        image.held.push(entry);
        Ok(image)
    }

    /// The default guest's kernel and modules.
    pub(super) async fn guest_kernel(
        &self,
        entry: &Arc<CacheEntry>,
    ) -> Result<(PreparedFile, Option<(ModuleIndex, Key)>), ImageError> {
        let about = GuestDescription::read(entry)?;
        let mut kernel = self.kernel(&entry.file(KERNEL)).await?;
        // A kernel that is used unchanged is in the entry, which must not be removed.
        kernel.held.push(Arc::clone(entry));
        let modules = self.guest_modules(entry, &about).await?;
        Ok((kernel, modules))
    }

    async fn guest_modules(
        &self,
        entry: &CacheEntry,
        about: &GuestDescription,
    ) -> Result<Option<(ModuleIndex, Key)>, ImageError> {
        if let Some(folder) = &about.modules_folder {
            return self.modules(folder, Some(&about.release)).await.map(Some);
        }
        if !entry.file(INDEX).is_file() {
            return Ok(None);
        }
        let index = read_index(entry, entry.path())?;
        let packages = about.packages.join(" ");
        let key = KeyBuilder::new("packed modules")
            .with("packages", packages)
            .finish();
        Ok(Some((index, key)))
    }

    /// The entry of the default guest: from the cache, downloaded, or from this host.
    pub(super) async fn default_entry(&self) -> Result<Arc<CacheEntry>, ImageError> {
        if let Some(entry) = self.cached_default().await? {
            return Ok(Arc::new(entry));
        }
        let progress = &self.progress;
        let notify = |notice: Notice<'_>| report(&**progress, "the default guest", notice);
        progress.step("making the default guest; this is done once");
        let make = async |folder: Utf8PathBuf| {
            let parts = download::download(&folder, progress).await?;
            finish(&folder, parts).await
        };
        let made = self
            .guests
            .get_or_build::<ImageError, _>(&download_key(), &notify, make)
            .await;
        let download = match made {
            Ok(entry) => return Ok(Arc::new(entry)),
            // The host's own kernel would not help.
            Err(error @ ImageError::Store(_)) => return Err(error),
            Err(error) => error.in_one_line(),
        };
        let from_host = async {
            let found = host::find()?;
            let key = found.key().map_err(|error| error.in_one_line())?;
            progress.warning(&format!(
                "the download failed ({download}): taking this host's own kernel"
            ));
            let make = async |folder: Utf8PathBuf| {
                let (entry, found) = (folder.clone(), found.clone());
                let parts = blocking(move || found.take(&entry)).await?;
                finish(&folder, parts).await
            };
            let made = self
                .guests
                .get_or_build::<ImageError, _>(&key, &notify, make)
                .await;
            made.map_err(|error| error.in_one_line())
        };
        from_host
            .await
            .map(Arc::new)
            .map_err(|host| ImageError::NoDefaultGuest {
                download: download.clone(),
                host,
            })
    }

    /// The entry that is in the cache. One from this host's files counts only as long as they are the
    /// same.
    async fn cached_default(&self) -> Result<Option<CacheEntry>, ImageError> {
        let progress = &self.progress;
        let notify = |notice: Notice<'_>| report(&**progress, "the default guest", notice);
        if let Some(entry) = self.guests.get(&download_key(), &notify).await? {
            return Ok(Some(entry));
        }
        let Ok(Ok(key)) = host::find().map(|found| found.key()) else {
            return Ok(None);
        };
        Ok(self.guests.get(&key, &notify).await?)
    }
}

/// One download serves until the host's distribution changes.
fn download_key() -> Key {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let mut facts: Vec<&str> = release
        .lines()
        .filter(|line| line.starts_with("ID=") || line.starts_with("VERSION_ID="))
        .collect();
    facts.sort_unstable();
    KeyBuilder::new("default guest")
        .with_number("layout", LAYOUT)
        .with("distribution", facts.join(" "))
        .finish()
}

/// Writes the rest of the entry.
async fn finish(entry: &Utf8Path, mut parts: GuestParts) -> Result<(), ImageError> {
    busybox::leave_modprobe_to_path(&mut parts.busybox);
    let program = entry.join(BUSYBOX);
    write(&program, &parts.busybox)?;
    fs_err::set_permissions(&program, std::fs::Permissions::from_mode(0o755))
        .map_err(provium_store::StoreError::from)?;
    let applets = applets(&program).await?;
    let entry = entry.to_owned();
    blocking(move || {
        let busybox = Busybox {
            program: parts.busybox,
            applets,
        };
        let mut tree = skeleton::start()?;
        skeleton::finish(&mut tree, &busybox, &parts.release)?;
        let archive = write_archive(&tree, &entry.join(ARCHIVE))?;
        let builtin = parts
            .release
            .builtin
            .map(|list| String::from_utf8_lossy(&list).into_owned());
        let about = GuestDescription {
            release: parts.release.name,
            builtin,
            applets: busybox.applets,
            modules_folder: parts.modules_folder,
            packages: parts.packages,
            archive,
        };
        let text = serde_json::to_vec_pretty(&about).map_err(|error| ImageError::Bug {
            what: format!("writing {ABOUT}: {error}"),
        })?;
        write(&entry.join(ABOUT), &text)
    })
    .await
}

/// It does not contain an init; one that a test adds is run.
fn init() -> Vec<String> {
    vec!["/init".to_owned()]
}

/// Writes a tree as an archive; gives its hash.
pub(super) fn write_archive(tree: &crate::tree::Tree, path: &Utf8Path) -> Result<Key, ImageError> {
    let bytes = tree.write_to(Vec::new()).map_err(|error| ImageError::Bug {
        what: format!("writing an archive: {error}"),
    })?;
    write(path, &bytes)?;
    Ok(KeyBuilder::new("archive").with("bytes", &bytes).finish())
}

/// The applets of busybox, which is the only downloaded program that is run on the host.
async fn applets(busybox: &Utf8Path) -> Result<Vec<String>, ImageError> {
    let mut command = Command::new(busybox.as_str());
    command.arg("--list-full").env_clear();
    let line = command.to_line();
    let output = output(command, APPLETS_DEADLINE).await?;
    let list = String::from_utf8_lossy(&output.stdout);
    let applets: Vec<String> = list
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.ends_with(busybox::HIDDEN_APPLET))
        .map(str::to_owned)
        .collect();
    if output.exit != Exit::Exited(0) || applets.is_empty() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(ImageError::ToolFailed {
            command: line,
            how: output.exit.to_string(),
            said,
        });
    }
    Ok(applets)
}
