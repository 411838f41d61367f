//! The lower bound of the memory with which a guest can start.
//!
//! The kernel lies at fixed addresses, the archives of the initial RAM file system above it, and all of
//! them stay until the archives are unpacked into RAM. With less, the machine resets or hangs
//! before it prints anything, so such a boot is refused. A usable guest needs more than that; how much
//! more is not known here.

use crate::boot::BootArchives;
use crate::elf::Elf;
use crate::error::ImageError;
use crate::image::GuestImage;
use crate::kernel;
use camino::Utf8Path;
use std::fmt;
use std::io::Read as _;

/// Maximum size of the headers of a kernel's file, bytes.
const HEADERS: u64 = 64 * 1024;
/// What an archive says besides the files in it is less than this part of it, and what the unpacked
/// files take besides their contents is not counted.
const ARCHIVE_OVERHEAD: u64 = 8;
const MIB: u64 = 1024 * 1024;

/// What a guest's memory has to hold before its first program runs, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryNeed {
    /// The kernel, with its zero-initialised memory.
    pub kernel: u64,
    /// The address where it ends.
    pub kernel_end: u64,
    /// All archives.
    pub archives: u64,
    /// The minimum size of their unpacked files.
    pub unpacked: u64,
}

impl MemoryNeed {
    /// The least memory in which the guest might start, bytes.
    pub fn least(&self) -> u64 {
        let loaded = self.kernel_end + self.archives;
        loaded.max(self.kernel + self.archives + self.unpacked)
    }
}

impl fmt::Display for MemoryNeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes.div_ceil(MIB);
        write!(
            f,
            "the guest cannot start in less than {} MiB: its kernel takes {} MiB, up to address {} MiB, its \
             initial RAM file system {} MiB, and at least {} MiB more when it is unpacked",
            mib(self.least()),
            mib(self.kernel),
            mib(self.kernel_end),
            mib(self.archives),
            mib(self.unpacked)
        )
    }
}

impl GuestImage {
    /// What the memory of a guest has to hold that boots with these archives.
    ///
    /// # Errors
    /// If a file of the image cannot be read.
    pub fn memory_need(&self, added: &BootArchives) -> Result<MemoryNeed, ImageError> {
        let (kernel, kernel_end) = kernel_size(&begin_of(&self.kernel)?);
        let mut archives = (added.before.len() + added.after.len()) as u64;
        let mut plain = archives;
        for path in &self.initrds {
            let length = std::fs::metadata(path).map_err(|source| ImageError::Read {
                path: path.clone(),
                source,
            })?;
            archives += length.len();
            // Data in a compression format that only the kernel knows takes an unknown amount of memory.
            if begin_of(path)?.starts_with(b"0707") {
                plain += length.len();
            }
        }
        Ok(MemoryNeed {
            kernel,
            kernel_end,
            archives,
            unpacked: plain - plain / ARCHIVE_OVERHEAD,
        })
    }
}

/// What a kernel takes, and the address where it ends; zero where its file does not say.
fn kernel_size(begin: &[u8]) -> (u64, u64) {
    if let Some(elf) = Elf::parse(begin) {
        return elf.loaded_size();
    }
    // It may unpack itself to any address.
    let size = kernel::size_in_memory(begin).unwrap_or(0);
    (size, size)
}

fn begin_of(path: &Utf8Path) -> Result<Vec<u8>, ImageError> {
    let mut begin = Vec::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(HEADERS).read_to_end(&mut begin));
    read.map_err(|source| ImageError::Read {
        path: path.to_owned(),
        source,
    })?;
    Ok(begin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::tests::kernel_at;
    use crate::kernel::around;
    use camino::Utf8PathBuf;
    use std::sync::Arc;

    #[test]
    fn kernel_and_archives_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let put = |name: &str, content: &[u8]| {
            let path = folder.join(name);
            fs_err::write(&path, content).unwrap();
            path
        };
        let vmlinux = put("vmlinux", &kernel_at(16 << 20, 40 << 20));
        let archive = put("cpio", &[b"070701", &[0; 8 << 20][..]].concat());
        let packed = put("lzo", &[b"\x89LZO\0", &[0; 1 << 20][..]].concat());
        let need = |kernel: &Utf8PathBuf, initrds: &[&Utf8PathBuf]| {
            let image = GuestImage {
                kernel: kernel.clone(),
                given_kernel: kernel.clone(),
                initrds: initrds.iter().map(|path| (*path).clone()).collect(),
                root_disk: None,
                modules: None,
                init: Vec::new(),
                id: String::new(),
                held: Vec::new(),
                layout: Arc::default(),
            };
            let added = BootArchives {
                before: vec![0; 2 << 20],
                after: Vec::new(),
            };
            image.memory_need(&added).unwrap()
        };

        let without = need(&vmlinux, &[]);
        assert_eq!((without.kernel, without.kernel_end), (40 << 20, 56 << 20));
        assert_eq!(without.least(), 58 << 20, "the end of the kernel counts");
        let with = need(&vmlinux, &[&archive]);
        assert_eq!(with.archives, (10 << 20) + 6);
        assert_eq!(with.least(), (66 << 20) + 6);
        let opaque = need(&vmlinux, &[&packed]);
        assert_eq!(opaque.unpacked, without.unpacked, "its size is unknown");
        assert!(with.to_string().contains("less than 67 MiB"), "{with}");

        let mut image = around(b"payload");
        image[0x260..0x264].copy_from_slice(&(30_u32 << 20).to_le_bytes());
        let bzimage = need(&put("bzImage", &image), &[]);
        assert_eq!((bzimage.kernel, bzimage.kernel_end), (30 << 20, 30 << 20));
    }
}
