//! Which file system is on a disk, by its magic number.

/// Where file systems have their magic numbers, and what Linux calls them. The driver `ext4` also has ext2 and ext3.
const MAGIC_NUMBERS: [(u64, &[u8], &str); 11] = [
    (0x438, &[0x53, 0xef], "ext4"),
    (0, b"XFSB", "xfs"),
    (0x1_0040, b"_BHRfS_M", "btrfs"),
    (0, b"hsqs", "squashfs"),
    (0x400, &[0xe2, 0xe1, 0xf5, 0xe0], "erofs"),
    (0x400, &[0x10, 0x20, 0xf5, 0xf2], "f2fs"),
    (0x8001, b"CD001", "iso9660"),
    (3, b"EXFAT   ", "exfat"),
    (0x52, b"FAT32   ", "vfat"),
    (0x36, b"FAT16   ", "vfat"),
    (0x36, b"FAT12   ", "vfat"),
];

/// The file system that begins where the disk does. `read` fills a buffer from an offset on, and returns false if the
/// disk ends before that.
///
/// # Errors
/// That of `read`.
pub fn filesystem_of<E>(
    mut read: impl FnMut(u64, &mut [u8]) -> Result<bool, E>,
) -> Result<Option<&'static str>, E> {
    let mut found = [0; 8];
    for (at, magic, name) in MAGIC_NUMBERS {
        let found = &mut found[..magic.len()];
        if read(at, found)? && found == magic {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn of(disk: &[u8]) -> Option<&'static str> {
        let read = |at: u64, buffer: &mut [u8]| {
            let at = usize::try_from(at).unwrap();
            let part = disk.get(at..at + buffer.len());
            Ok::<_, Infallible>(part.map(|part| buffer.copy_from_slice(part)).is_some())
        };
        filesystem_of(read).unwrap()
    }

    #[test]
    fn a_file_system_is_known_by_its_magic_number() {
        for (at, magic, name) in MAGIC_NUMBERS {
            let mut disk = vec![0; usize::try_from(at).unwrap()];
            disk.extend_from_slice(magic);
            assert_eq!(of(&disk), Some(name));
            disk.pop();
            assert_eq!(of(&disk), None, "{name}, one byte short");
        }
        assert_eq!(of(b""), None);
        assert_eq!(of(&[0; 100_000]), None);
    }
}
