//! The default guest from what this host has: its own kernel and a static busybox.

use super::parts::{GuestParts, KERNEL};
use super::skeleton::Release;
use crate::elf::Elf;
use crate::error::ImageError;
use camino::{Utf8Path, Utf8PathBuf};
use provium_store::{Key, KeyBuilder};
use std::os::unix::fs::MetadataExt as _;

/// The files of this host that a guest is made from.
#[derive(Debug, Clone)]
pub(super) struct HostParts {
    release: String,
    kernel: Utf8PathBuf,
    modules: Option<Utf8PathBuf>,
    busybox: Utf8PathBuf,
}

/// The files of this host, or what is missing.
pub(super) fn find() -> Result<HostParts, String> {
    let uname = rustix::system::uname();
    let release = uname
        .release()
        .to_str()
        .map_err(|_| "its release is not UTF-8 text".to_owned())?;
    find_in(
        Utf8Path::new("/"),
        release,
        &std::env::var("PATH").unwrap_or_default(),
    )
}

fn find_in(root: &Utf8Path, release: &str, path: &str) -> Result<HostParts, String> {
    let places = [
        format!("boot/vmlinuz-{release}"),
        format!("usr/lib/modules/{release}/vmlinuz"),
    ];
    let kernels = places.map(|place| root.join(place));
    let kernel = kernels
        .iter()
        .find(|kernel| kernel.is_file())
        .ok_or_else(|| format!("there is neither `{}` nor `{}`", kernels[0], kernels[1]))?;
    std::fs::File::open(kernel).map_err(|error| format!("`{kernel}` cannot be read: {error}"))?;
    let folders = ["lib", "usr/lib"].map(|above| root.join(format!("{above}/modules/{release}")));
    let modules = folders.into_iter().find(|folder| folder.is_dir());
    let busyboxes = path
        .split(':')
        .map(|folder| Utf8Path::new(folder).join("busybox"));
    let busybox = busyboxes
        .filter(|file| file.is_file())
        .find(|file| is_static(file))
        .ok_or_else(|| "no static busybox is on PATH; install busybox-static".to_owned())?;
    Ok(HostParts {
        release: release.to_owned(),
        kernel: kernel.clone(),
        modules,
        busybox,
    })
}

/// Neither a program with a loader nor a position-independent one that needs libraries.
fn is_static(file: &Utf8Path) -> bool {
    std::fs::read(file).is_ok_and(|bytes| {
        Elf::parse(&bytes).is_some_and(|elf| elf.is_x86_64() && !elf.is_dynamic())
    })
}

impl HostParts {
    /// A key of the files, so that a new kernel makes a new guest.
    pub(super) fn key(&self) -> Result<Key, ImageError> {
        let mut key = KeyBuilder::new("host guest").with_number("layout", super::parts::LAYOUT);
        for file in [&self.kernel, &self.busybox] {
            let stat = std::fs::metadata(file).map_err(|source| ImageError::Read {
                path: file.clone(),
                source,
            })?;
            key = key
                .with("file", file.as_str())
                .with_number("size", stat.size());
            key = key.with("time", format!("{}.{}", stat.mtime(), stat.mtime_nsec()));
        }
        Ok(key
            .with(
                "modules",
                self.modules.as_deref().map_or("", Utf8Path::as_str),
            )
            .finish())
    }

    /// Fills `entry` with the kernel; gives the rest.
    pub(super) fn take(&self, entry: &Utf8Path) -> Result<GuestParts, ImageError> {
        let read = |path: &Utf8Path| {
            std::fs::read(path).map_err(|source| ImageError::Read {
                path: path.to_owned(),
                source,
            })
        };
        crate::images::write(&entry.join(KERNEL), &read(&self.kernel)?)?;
        let list = self
            .modules
            .as_ref()
            .map(|folder| folder.join("modules.builtin"));
        Ok(GuestParts {
            busybox: read(&self.busybox)?,
            release: Release {
                name: self.release.clone(),
                builtin: list.and_then(|list| std::fs::read(list).ok()),
            },
            modules_folder: self.modules.clone(),
            packages: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::tests::program;

    #[test]
    fn kernel_and_a_static_busybox_are_needed() {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(folder.path()).unwrap();
        let path = format!("{root}/one:{root}/two");
        let why = || find_in(root, "6.1", &path).unwrap_err();
        let put = |path: &str, content: &[u8]| {
            fs_err::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs_err::write(root.join(path), content).unwrap();
        };
        assert!(why().contains("boot/vmlinuz-6.1"));
        put("boot/vmlinuz-6.1", b"kernel");
        assert!(why().contains("busybox-static"));
        put("one/busybox", &program(true));
        assert!(why().contains("busybox-static"));
        put("two/busybox", &program(false));
        put("lib/modules/6.1/modules.builtin", b"list");
        let found = find_in(root, "6.1", &path).unwrap();
        assert_eq!(found.busybox, root.join("two/busybox"));
        let key = found.key().unwrap();
        let entry = root.join("entry");
        fs_err::create_dir(&entry).unwrap();
        let parts = found.take(&entry).unwrap();
        assert_eq!(parts.modules_folder, Some(root.join("lib/modules/6.1")));
        assert_eq!(parts.release.builtin.as_deref(), Some(&b"list"[..]));
        put("boot/vmlinuz-6.1", b"new kernel");
        assert_ne!(found.key().unwrap(), key);
    }
}
