//! Images of whole root file systems: of a folder, or of an archive of one.
//!
//! A small root is unpacked into the guest's memory, which needs no driver. A large one is on a disk: its initial RAM
//! file system has only the agent and the modules with which the agent mounts the disk.

use crate::blocking::blocking;
use crate::disk::DiskImage;
use crate::error::ImageError;
use crate::image::GuestImage;
use crate::images::{ARCHIVES, Images, PreparedFile, assemble, prepared};
use crate::modules::ModuleIndex;
use crate::progress::report;
use crate::root::Root;
use crate::tree::Tree;
use camino::{Utf8Path, Utf8PathBuf};
use provium_store::{Key, KeyBuilder};
use std::sync::Arc;

/// The id of the disk with the root file system, which is also its serial number.
pub const ROOT_DISK: &str = "root";

/// From which size on a root is put on a disk, bytes of its files.
pub(crate) const LARGE_ROOT: u64 = 96 << 20;

/// The drivers of a root disk.
pub(crate) const DISK_MODULES: [&str; 2] = ["virtio_blk", "ext4"];

/// Where a guest has its root file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RootPlacement {
    /// On a disk if it is large (96 MiB) and the kernel's modules have the drivers, else in memory.
    #[default]
    Auto,
    /// In memory.
    Memory,
    /// On a disk.
    Disk,
}

impl RootPlacement {
    /// Whether a root of that size is put on a disk.
    pub(crate) fn is_disk(self, size: u64, modules: Option<&ModuleIndex>) -> bool {
        let has = |name: &&str| modules.is_some_and(|index| index.resolve(name).is_some());
        match self {
            Self::Auto => size > LARGE_ROOT && DISK_MODULES.iter().all(has),
            Self::Memory => false,
            Self::Disk => true,
        }
    }
}

impl Images {
    /// An image of a whole root file system with a kernel in it: a folder, or an archive (`.tar`, also packed by gzip,
    /// xz or zstd). With an initial RAM file system of its own, only kernel and modules are taken from the folder.
    ///
    /// # Errors
    /// If the kernel is missing, or a file cannot be read.
    pub async fn from_root(
        &self,
        path: &Utf8Path,
        initrd: Option<&Utf8Path>,
        placement: RootPlacement,
    ) -> Result<GuestImage, ImageError> {
        if path.is_file() {
            return self.root_of_archive(path).await;
        }
        let root = Root::open(path)?;
        let (kernel, bytes) = self.read_kernel(&root.kernel()?).await?;
        let modules = match root.modules(kernel.release.as_deref()) {
            Some(folder) => Some(self.modules(&folder, kernel.release.as_deref()).await?),
            None => None,
        };
        let kernel = self.copied(kernel, bytes).await?;
        if let Some(initrd) = initrd {
            let archive = self.initrd(initrd).await?;
            let init = vec!["/init".to_owned()];
            return Ok(assemble(kernel, vec![archive], modules, init));
        }
        let tree = blocking(move || root.tree()).await?;
        let index = modules.as_ref().map(|(index, _)| index);
        if placement.is_disk(tree.content_len(), index) {
            let disk = self.disk_of_folder(path);
            return Ok(assemble_on_disk(kernel, modules, disk.await?, inits()));
        }
        let archive = self.root_archive(path, tree).await?;
        Ok(assemble(kernel, vec![archive], modules, inits()))
    }

    /// The archive of a root folder. Kept by what `stat` says of each file, so that an unchanged
    /// folder is not read again.
    async fn root_archive(&self, dir: &Utf8Path, tree: Tree) -> Result<PreparedFile, ImageError> {
        let (tree, hash) = blocking(move || {
            let hash = tree.stamp()?;
            Ok((tree, hash))
        })
        .await?;
        let what = format!("the archive of `{dir}`");
        let progress = Arc::clone(&self.progress);
        let source = dir.to_owned();
        let make = |folder: Utf8PathBuf| {
            progress.step(&format!("packing `{source}`"));
            blocking(move || {
                let path = folder.join(ARCHIVES);
                let failed = |source| ImageError::Read {
                    path: path.clone(),
                    source,
                };
                let file = fs_err::File::create(path.as_std_path()).map_err(failed)?;
                let mut out = std::io::BufWriter::with_capacity(1 << 20, file);
                let written = tree.write_to(&mut out);
                written.and_then(std::io::Write::flush).map_err(failed)
            })
        };
        let notify = |notice: provium_store::Notice<'_>| report(&*self.progress, &what, notice);
        let entry = self
            .roots
            .get_or_build::<ImageError, _>(&hash, &notify, make)
            .await?;
        Ok(prepared(dir, hash, entry, ARCHIVES, None))
    }
}

/// Puts an image together whose root is on a disk.
pub(crate) fn assemble_on_disk(
    kernel: PreparedFile,
    modules: Option<(ModuleIndex, Key)>,
    disk: DiskImage,
    init: Vec<String>,
) -> GuestImage {
    let image = assemble(kernel, Vec::new(), modules, init);
    let id = KeyBuilder::new("image with a root disk")
        .with("image", &image.id)
        .with("disk", disk.id.as_deref().unwrap_or_default());
    GuestImage {
        id: id.finish().to_string(),
        root_disk: Some(disk),
        ..image
    }
}

/// What a system has as its first program.
pub(crate) fn inits() -> Vec<String> {
    ["/init", "/sbin/init"].map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::BootRequest;
    use crate::compress::tests::gzip_of;
    use crate::elf::tests::{kernel, module};
    use crate::kernel::around;
    use crate::progress::SilentProgress;

    fn put(root: &Utf8Path, name: &str, content: &[u8]) {
        fs_err::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs_err::write(root.join(name), content).unwrap();
    }

    fn fill(root: &Utf8Path) {
        put(root, "boot/vmlinuz-6.1-x", &around(&gzip_of(&kernel(true))));
        for name in ["ext4", "virtio_blk"] {
            let path = format!("usr/lib/modules/6.1-x/kernel/{name}.ko");
            put(root, &path, &module(&[&format!("name={name}")]));
        }
        put(root, "sbin/init", b"#!/bin/sh");
    }

    #[tokio::test]
    async fn a_large_root_is_on_a_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap();
        let images = Images::open(&path.join("cache"), Arc::new(SilentProgress)).unwrap();
        let root = path.join("root");
        fill(&root);
        let image = async |placement| images.from_root(&root, None, placement).await.unwrap();
        let small = image(RootPlacement::Auto).await;
        assert!(small.root_disk.is_none());
        let asked = image(RootPlacement::Disk).await;
        assert_eq!(asked.root_disk.as_ref().unwrap().filesystem, Some("ext4"));
        assert!(asked.initrds.is_empty());
        assert_ne!(asked.id, small.id);

        let large = vec![7; 97 << 20];
        put(&root, "usr/share/large", &large);
        let large = image(RootPlacement::Auto).await;
        let disk = large.root_disk.as_ref().unwrap();
        assert!(disk.size > (97 + 64) << 20);
        let request = BootRequest {
            hostname: "vm".to_owned(),
            modules: &[],
            files: &[],
            inject_agent: true,
        };
        let archives = large.boot_archive(&request).unwrap();
        for part in [&b"-ext4.ko"[..], b"-virtio_blk.ko", b"\x92\xa4root\xa4ext4"] {
            let mut windows = archives.before.windows(part.len());
            assert!(windows.any(|bytes| bytes == part));
        }
        let in_memory = image(RootPlacement::Memory).await;
        assert!(in_memory.root_disk.is_none());

        // Without the drivers it cannot be mounted.
        fs_err::remove_dir_all(root.join("usr/lib/modules")).unwrap();
        assert!(image(RootPlacement::Auto).await.root_disk.is_none());
    }

    #[tokio::test]
    async fn an_archive_keeps_owners_modes_and_devices() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap();
        let images = Images::open(&path.join("cache"), Arc::new(SilentProgress)).unwrap();
        let root = path.join("root");
        fill(&root);
        put(&root, "etc/shadow", b"secret");
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_dir_all(".", &root).unwrap();
        let mut add = |name: &str, kind, mode, (uid, gid)| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_uid(uid);
            header.set_gid(gid);
            header.set_size(0);
            header.set_mtime(1_000_000_000);
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
            tar.append_data(&mut header, name, std::io::empty())
                .unwrap();
        };
        add("etc/shadow", tar::EntryType::Regular, 0o0, (0, 42));
        add("dev/null", tar::EntryType::Char, 0o666, (0, 0));
        add("run/pipe", tar::EntryType::Fifo, 0o600, (7, 7));
        add("bin/su", tar::EntryType::Regular, 0o4755, (0, 0));
        let plain = tar.into_inner().unwrap();
        put(path, "root.tar.gz", &gzip_of(&plain));
        let archive = path.join("root.tar.gz");
        let image = images
            .from_root(&archive, None, RootPlacement::Auto)
            .await
            .unwrap();
        assert_eq!(fs_err::read(&image.kernel).unwrap(), kernel(true));
        assert!(image.modules.as_ref().unwrap().resolve("ext4").is_some());
        let disk = image.root_disk.as_ref().unwrap();
        let list = |folder: &str| {
            let said = std::process::Command::new("/usr/sbin/debugfs")
                .args(["-R", &format!("ls -p {folder}")])
                .arg(&disk.path)
                .output()
                .unwrap();
            String::from_utf8_lossy(&said.stdout).into_owned()
        };
        let has = |folder: &str, line: &str| {
            let list = list(folder);
            assert!(list.contains(line), "{folder}: {list}");
        };
        has("/etc", "/100000/0/42/shadow/");
        has("/dev", "/020666/0/0/null/");
        has("/run", "/010600/7/7/pipe/");
        has("/bin", "/104755/0/0/su/");
        let checked = std::process::Command::new("/usr/sbin/e2fsck")
            .args(["-f", "-n", disk.path.as_str()])
            .status();
        assert!(checked.unwrap().success());
        let again = images.from_root(&archive, None, RootPlacement::Auto).await;
        assert_eq!(again.unwrap().id, image.id);

        put(path, "text.tar", b"some text");
        let error = images
            .from_root(&path.join("text.tar"), None, RootPlacement::Auto)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("text.tar"), "{error}");
    }
}
