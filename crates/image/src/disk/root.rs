//! Root file systems on disks that do not come from a folder: of an archive, of packages.

use super::archive::{self, UnpackedArchive};
use super::ext4::{self, Source};
use super::size::dimensions;
use super::source::ImageSource;
use super::{DiskImage, folder};
use crate::blocking::blocking;
use crate::error::ImageError;
use crate::image::GuestImage;
use crate::images::{INDEX, Images, read_index, write_index};
use crate::modules::{listing, scan_tree};
use crate::node::Node;
use crate::progress::report;
use crate::root::Root;
use crate::root_image::{assemble_on_disk, inits};
use crate::tree::Tree;
use crate::walk::walk;
use camino::{Utf8Path, Utf8PathBuf};
use provium_store::{KeyBuilder, Notice, StoreError};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

/// How entries are made. Raised when they are made in another way.
const LAYOUT: u64 = 2;

/// Files of an entry, besides the image.
const KERNEL: &str = "kernel";
const PACK: &str = "modules.pack";

impl Images {
    /// The image of a root file system in a tar archive, which becomes a disk.
    pub(crate) async fn root_of_archive(
        &self,
        archive: &Utf8Path,
    ) -> Result<GuestImage, ImageError> {
        let metadata = archive.metadata().map_err(|source| ImageError::Read {
            path: archive.to_owned(),
            source,
        })?;
        let times = (
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.ctime(),
            metadata.ctime_nsec(),
        );
        let file = (metadata.dev(), metadata.ino(), metadata.len());
        let key = KeyBuilder::new("disk of a root archive")
            .with_number("layout", LAYOUT)
            .with("file", format!("{file:?} {times:?}"))
            .finish();
        let what = format!("the disk of `{archive}`");
        let progress = &self.progress;
        let notify = |notice: Notice<'_>| report(&**progress, &what, notice);
        let make = async |entry: Utf8PathBuf| {
            progress.step(&format!("unpacking `{archive}`"));
            let (from, at) = (archive.to_owned(), entry.clone());
            let (source, dimensions) = blocking(move || {
                let contents = at.join("contents");
                fs_err::create_dir(&contents).map_err(StoreError::from)?;
                let source = source_of(archive::unpack(&from, &contents)?, &at, &from)?;
                fs_err::remove_dir_all(&contents).map_err(StoreError::from)?;
                take_kernel(&source.folder, &at, &from)?;
                let dimensions = dimensions(&source.wanted)?;
                Ok((source, dimensions))
            })
            .await?;
            progress.step(&format!("making a file system of `{archive}`"));
            let folder = source.folder.clone();
            ext4::make(source, dimensions, &entry, &entry.join(folder::FILE)).await?;
            ImageSource::write("archive", archive, &entry)?;
            blocking(move || Ok(fs_err::remove_dir_all(&folder).map_err(StoreError::from)?)).await
        };
        let entry = self
            .disks
            .get_or_build::<ImageError, _>(&key, &notify, make)
            .await?;
        let mut kernel = self.kernel(&entry.file(KERNEL)).await?;
        let modules = if entry.file(INDEX).is_file() {
            let index = read_index(&entry, entry.path())?;
            Some((index, key.clone()))
        } else {
            None
        };
        let disk = DiskImage::in_entry(entry, folder::FILE, &key)?;
        kernel.held.extend(disk.held.iter().map(Arc::clone));
        Ok(assemble_on_disk(kernel, modules, disk, inits()))
    }
}

/// Makes the disk of a tree in memory, in `entry`.
pub(crate) async fn disk_of_tree(tree: Tree, entry: &Utf8Path) -> Result<(), ImageError> {
    let at = entry.to_owned();
    let (source, dimensions) = blocking(move || {
        let source = source_of(UnpackedArchive::of(tree), &at, &at)?;
        let dimensions = dimensions(&source.wanted)?;
        Ok((source, dimensions))
    })
    .await?;
    let folder = source.folder.clone();
    ext4::make(source, dimensions, entry, &entry.join(folder::FILE)).await?;
    blocking(move || Ok(fs_err::remove_dir_all(&folder).map_err(StoreError::from)?)).await
}

/// The folder in `entry` that has the files of `unpacked`.
fn source_of(
    unpacked: UnpackedArchive,
    entry: &Utf8Path,
    archive: &Utf8Path,
) -> Result<Source, ImageError> {
    let folder = entry.join("root");
    unpacked.make_folder(&folder, archive)?;
    let found = walk(&folder, &BTreeSet::new(), &|_, _| true)?;
    let mut wanted = found.clone();
    for (path, node) in unpacked.tree.into_nodes() {
        let kind = wanted.get(&path).map(|there| there.kind.clone());
        let kind = kind.unwrap_or(node.kind);
        wanted.add(path, Node { kind, ..node });
    }
    Ok(Source {
        folder,
        wanted,
        found,
        attributes: unpacked.attributes,
    })
}

/// Copies the kernel and its modules from the folder, which goes away, to the entry.
fn take_kernel(folder: &Utf8Path, entry: &Utf8Path, archive: &Utf8Path) -> Result<(), ImageError> {
    let root = Root::open(folder)?;
    let kernel = root.kernel().map_err(|error| match error {
        ImageError::NoKernel { looked, .. } => ImageError::NoKernel {
            root: archive.to_owned(),
            looked,
        },
        error => error,
    })?;
    fs_err::copy(&kernel, entry.join(KERNEL)).map_err(StoreError::from)?;
    let bytes = fs_err::read(&kernel).map_err(StoreError::from)?;
    let release = crate::kernel::release(&bytes);
    let Some(modules) = root.modules(release.as_deref()) else {
        return Ok(());
    };
    let mut tree = Tree::default();
    for file in listing(&modules)? {
        let path = modules.join(file.path());
        let content = fs_err::read(&path).map_err(StoreError::from)?;
        tree.put(file.path().as_str().as_bytes(), Node::file(0o644, content))?;
    }
    let release = release.or_else(|| modules.file_name().map(str::to_owned));
    let pack = fs_err::File::create(entry.join(PACK)).map_err(StoreError::from)?;
    let mut pack = std::io::BufWriter::with_capacity(1 << 20, pack);
    let record = scan_tree(tree, &release.unwrap_or_default(), PACK, &mut pack)?;
    std::io::Write::flush(&mut pack).map_err(StoreError::from)?;
    write_index(entry, &record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Node;

    #[tokio::test]
    async fn a_tree_in_memory_becomes_a_disk() {
        let folder = tempfile::tempdir().unwrap();
        let entry = Utf8Path::from_path(folder.path()).unwrap();
        let mut tree = Tree::default();
        tree.add_root(0o755);
        let mut put = |path: &str, node| tree.put(path.as_bytes(), node).unwrap();
        put("home/tester", Node::directory(0o700).owned_by(1000, 1000));
        put(
            "home/tester/file",
            Node::file(0o640, *b"text").owned_by(1000, 1000),
        );
        put("dev/null", Node::device(0o666, 1, 3));
        put("bin", Node::symlink("usr/bin"));
        put("bin/program", Node::file(0o4755, *b"program"));
        disk_of_tree(tree, entry).await.unwrap();
        let names = entry.read_dir_utf8().unwrap();
        let names: Vec<_> = names
            .map(|name| name.unwrap().file_name().to_owned())
            .collect();
        assert_eq!(names, [folder::FILE], "only the image stays");
        let debugfs = |request: &str| {
            let said = std::process::Command::new("/usr/sbin/debugfs")
                .args(["-R", request])
                .arg(entry.join(folder::FILE))
                .output()
                .unwrap();
            String::from_utf8_lossy(&said.stdout).into_owned()
        };
        for (folder, line) in [
            ("/home", "/040700/1000/1000/tester/"),
            ("/home/tester", "/100640/1000/1000/file/4/"),
            ("/dev", "/020666/0/0/null/"),
            ("/usr/bin", "/104755/0/0/program/7/"),
        ] {
            let list = debugfs(&format!("ls -p {folder}"));
            assert!(list.contains(line), "{folder}: {list}");
        }
    }
}
