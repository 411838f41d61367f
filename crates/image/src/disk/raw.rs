//! Images of other programs as raw ones.

use super::source::ImageSource;
use super::tools::{QEMU_IMG, run};
use super::{DiskImage, filesystem_of};
use crate::blocking::blocking;
use crate::error::ImageError;
use crate::images::Images;
use crate::progress::report;
use camino::{Utf8Path, Utf8PathBuf};
use provium_process::Command;
use provium_store::{Key, KeyBuilder, Notice};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

/// Bytes of a sector.
const SECTOR: u64 = 512;

/// The file in an entry.
const FILE: &str = "raw.img";

/// `QFI\xfb`, as specified in QEMU's docs/interop/qcow2.txt.
const QCOW2: &[u8] = b"QFI\xfb";

/// First bytes of formats that are not read.
const OTHER_FORMATS: [(u64, &[u8], &str); 8] = [
    (0, b"KDMV", "vmdk"),
    (0, b"COWD", "vmdk"),
    (0, b"# Disk DescriptorFile", "vmdk"),
    (0x40, &[0x7f, 0x10, 0xda, 0xbe], "vdi"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"conectix", "vpc"),
    (0, b"QED\0", "qed"),
    (0, b"WithoutFreeSpace", "parallels"),
];

impl Images {
    /// The raw image of a file: itself if it is raw, what `qemu-img` converts it to if it is a qcow2 file. Kept by
    /// what `stat` says of the file and of the files below it that it is a difference from.
    ///
    /// # Errors
    /// [`ImageError::NotADisk`] for other formats; [`ImageError::NoTool`] without `qemu-img`.
    pub async fn raw_of(&self, image: &Utf8Path) -> Result<DiskImage, ImageError> {
        let path = image.to_owned();
        let (is_qcow2, size, filesystem) = blocking(move || inspect(&path)).await?;
        if !is_qcow2 {
            return Ok(DiskImage {
                path: image.to_owned(),
                size,
                filesystem,
                id: None,
                held: None,
            });
        }
        let qemu_img = QEMU_IMG.path()?;
        let key = chain_key(&qemu_img, image).await?;
        let what = format!("the raw image of `{image}`");
        let progress = &self.progress;
        let notify = |notice: Notice<'_>| report(&**progress, &what, notice);
        let make = async |entry: Utf8PathBuf| {
            progress.step(&format!("converting `{image}` to a raw image"));
            let mut command = Command::new(qemu_img);
            command.args(["convert", "-f", "qcow2", "-O", "raw", "--"]);
            command.args([image.as_str(), entry.join(FILE).as_str()]);
            run(command).await?;
            ImageSource::write("qcow2", image, &entry)
        };
        let entry = self
            .disks
            .get_or_build::<ImageError, _>(&key, &notify, make)
            .await?;
        DiskImage::in_entry(entry, FILE, &key)
    }
}

/// Whether it is a qcow2 file, the size of the disk that it is as a raw image, and the file system on it.
fn inspect(path: &Utf8Path) -> Result<(bool, u64, Option<&'static str>), ImageError> {
    let failed = |source| ImageError::Read {
        path: path.to_owned(),
        source,
    };
    let refused = |why: String| ImageError::NotADisk {
        path: path.to_owned(),
        why,
    };
    // It is not opened if it is a FIFO, which would wait for a writer.
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(refused("it is not a regular file".to_owned()));
    }
    let file = File::open(path).map_err(failed)?;
    if metadata.len() == 0 {
        return Err(refused("it is empty".to_owned()));
    }
    let has = |at: u64, magic: &[u8]| has(&file, at, magic).map_err(failed);
    if has(0, QCOW2)? {
        return Ok((true, metadata.len(), None));
    }
    for (at, magic, name) in OTHER_FORMATS {
        if has(at, magic)? {
            return Err(refused(format!(
                "its format {name} is not supported; convert it: qemu-img convert -O raw {path} NEW"
            )));
        }
    }
    // As QEMU does with a raw image, the last sector is filled up.
    let size = metadata.len().next_multiple_of(SECTOR);
    Ok((false, size, filesystem(path)?))
}

/// The file system that begins where the file does.
pub(super) fn filesystem(path: &Utf8Path) -> Result<Option<&'static str>, ImageError> {
    let failed = |source| ImageError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    filesystem_of(|at, buffer| read(&file, at, buffer)).map_err(failed)
}

fn has(file: &File, at: u64, magic: &[u8]) -> io::Result<bool> {
    let mut found = vec![0; magic.len()];
    Ok(read(file, at, &mut found)? && found == magic)
}

/// Fills the buffer; false if the file ends before.
fn read(file: &File, at: u64, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact_at(buffer, at) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// A key of the image and of those that it is a difference from.
async fn chain_key(qemu_img: &Utf8Path, image: &Utf8Path) -> Result<Key, ImageError> {
    let mut command = Command::new(qemu_img);
    command.args(["info", "--backing-chain", "--output=json", "-f", "qcow2"]);
    command.args(["--", image.as_str()]);
    let said = run(command).await?;
    let refused = |why: String| ImageError::NotADisk {
        path: image.to_owned(),
        why,
    };
    let chain: Vec<serde_json::Value> = serde_json::from_slice(&said.stdout)
        .map_err(|error| refused(format!("cannot read what `qemu-img info` says: {error}")))?;
    let mut key = KeyBuilder::new("raw image");
    for part in &chain {
        let path = part.get("filename").and_then(serde_json::Value::as_str);
        let path = path.ok_or_else(|| refused("`qemu-img info` names no file".to_owned()))?;
        if part.pointer("/format-specific/data/data-file").is_some() {
            return Err(refused("its data is in another file".to_owned()));
        }
        let file = std::fs::metadata(path).map_err(|source| ImageError::Read {
            path: path.into(),
            source,
        })?;
        let times = (
            file.mtime(),
            file.mtime_nsec(),
            file.ctime(),
            file.ctime_nsec(),
        );
        let facts = format!("{} {} {} {times:?}", file.dev(), file.ino(), file.len());
        key = key.with("path", path).with("facts", facts);
    }
    Ok(key.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::SilentProgress;
    use std::sync::Arc;

    fn images() -> (tempfile::TempDir, Utf8PathBuf, Images) {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
        let images = Images::open(&path.join("cache"), Arc::new(SilentProgress)).unwrap();
        (folder, path, images)
    }

    fn qemu_img(arguments: &[&str]) {
        let status = std::process::Command::new("qemu-img")
            .args(arguments)
            .status();
        assert!(status.unwrap().success(), "{arguments:?}");
    }

    #[tokio::test]
    async fn a_raw_image_is_used_as_it_is() {
        let (_folder, path, images) = images();
        let file = path.join("raw");
        let mut content = vec![0; 4000];
        content[0x438..0x43a].copy_from_slice(&[0x53, 0xef]);
        fs_err::write(&file, content).unwrap();
        let disk = images.raw_of(&file).await.unwrap();
        assert_eq!(
            (disk.path, disk.size),
            (file, 4096),
            "sectors are filled up"
        );
        assert_eq!(disk.filesystem, Some("ext4"));
    }

    #[tokio::test]
    async fn an_image_is_converted_with_its_backing_file() {
        let (_folder, path, images) = images();
        let (base, top) = (path.join("base"), path.join("top.qcow2"));
        fs_err::write(&base, vec![7; 1 << 20]).unwrap();
        qemu_img(&[
            "create",
            "-q",
            "-f",
            "qcow2",
            "-F",
            "raw",
            "-b",
            base.as_str(),
            top.as_str(),
        ]);
        let disk = images.raw_of(&top).await.unwrap();
        assert!(fs_err::read(&disk.path).unwrap() == vec![7; 1 << 20]);
        assert_eq!(disk.size, 1 << 20);
        let again = images.raw_of(&top).await.unwrap();
        assert_eq!(again.path, disk.path);
        fs_err::write(&base, vec![8; 1 << 20]).unwrap();
        let changed = images.raw_of(&top).await.unwrap();
        assert!(fs_err::read(&changed.path).unwrap() == vec![8; 1 << 20]);
    }

    #[tokio::test]
    async fn what_cannot_be_a_disk_is_refused() {
        let (_folder, path, images) = images();
        let put = |name: &str, content: &[u8]| {
            fs_err::write(path.join(name), content).unwrap();
            path.join(name)
        };
        let fifo = path.join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        for (file, why) in [
            (put("empty", b""), "it is empty"),
            (put("vmdk", b"KDMV\x01"), "format vmdk is not supported"),
            (put("vhdx", b"vhdxfile"), "format vhdx is not supported"),
            (put("broken", b"QFI\xfb"), "qemu-img"),
            (path.clone(), "not a regular file"),
            (fifo, "not a regular file"),
            (path.join("absent"), "cannot read"),
        ] {
            let error = images.raw_of(&file).await.unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
            assert!(error.contains(file.as_str()), "{error}");
        }
    }
}
