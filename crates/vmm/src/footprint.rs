//! How much memory a kernel needs before its first line on the console, from the headers of its image.
//!
//! A kernel that does not fit faults before it can say so, and the machine resets, again and again. It
//! is refused before that.

use std::fs::File;
use std::io::{self, SeekFrom};

use camino::Utf8Path;

/// Longest table of program headers that is read, entries. Kernels have about five.
const MOST_SEGMENTS: u16 = 64;

/// `PT_LOAD`, from `elf.h`.
const LOAD: u32 = 1;

/// Where a bzImage has its protocol's version, its magic, the preferred address and the memory needed
/// there (`Documentation/arch/x86/boot.rst`).
const MAGIC_AT: usize = 0x202;
const MAGIC: &[u8; 4] = b"HdrS";
const VERSION_AT: usize = 0x206;
const ADDRESS_AT: usize = 0x258;
const SIZE_AT: usize = 0x260;

/// The version that has the last two.
const SIZED: u16 = 0x020a;

/// The end of what `kernel` occupies once it is loaded, bytes from the start of memory; `None` if its
/// image does not say.
pub fn kernel_end(kernel: &Utf8Path) -> Option<u64> {
    end_of(&mut File::open(kernel).ok()?).ok().flatten()
}

fn end_of(image: &mut (impl io::Read + io::Seek)) -> io::Result<Option<u64>> {
    let mut head = [0; SIZE_AT + 4];
    image.read_exact(&mut head)?;
    if head.starts_with(b"\x7fELF\x02\x01") {
        return end_of_elf(image, &head).map(Some);
    }
    let version = u16::from_le_bytes(bytes(&head, VERSION_AT));
    if head[MAGIC_AT..][..4] != *MAGIC || version < SIZED {
        return Ok(None);
    }
    let address = u64::from_le_bytes(bytes(&head, ADDRESS_AT));
    let size = u32::from_le_bytes(bytes(&head, SIZE_AT));
    Ok(address.checked_add(size.into()))
}

/// The highest physical address that a segment reaches.
fn end_of_elf(image: &mut (impl io::Read + io::Seek), head: &[u8]) -> io::Result<u64> {
    let table = u64::from_le_bytes(bytes(head, 0x20));
    let entry = u16::from_le_bytes(bytes(head, 0x36));
    let count = u16::from_le_bytes(bytes(head, 0x38)).min(MOST_SEGMENTS);
    let mut end = 0;
    for number in 0..count {
        let at = table.saturating_add(u64::from(number) * u64::from(entry));
        let mut segment = [0; 56];
        image.seek(SeekFrom::Start(at))?;
        image.read_exact(&mut segment)?;
        if u32::from_le_bytes(bytes(&segment, 0)) == LOAD {
            let address = u64::from_le_bytes(bytes(&segment, 0x18));
            let size = u64::from_le_bytes(bytes(&segment, 0x28));
            end = end.max(address.saturating_add(size));
        }
    }
    Ok(end)
}

/// `N` bytes of a header from `at` on; zeros where it is shorter.
fn bytes<const N: usize>(header: &[u8], at: usize) -> [u8; N] {
    let found = header.get(at..at + N);
    found
        .and_then(|found| found.try_into().ok())
        .unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn put(image: &mut [u8], at: usize, value: &[u8]) {
        image[at..at + value.len()].copy_from_slice(value);
    }

    #[test]
    fn an_elf_kernel_ends_with_its_highest_segment() {
        let mut image = vec![0; 4096];
        put(&mut image, 0, b"\x7fELF\x02\x01");
        put(&mut image, 0x20, &1024_u64.to_le_bytes());
        put(&mut image, 0x36, &56_u16.to_le_bytes());
        put(&mut image, 0x38, &3_u16.to_le_bytes());
        for (number, (kind, address, size)) in [
            (1_u32, 1_u64 << 24, 100_u64),
            (4, 1 << 40, 5),
            (1, 1 << 20, 7),
        ]
        .into_iter()
        .enumerate()
        {
            let at = 1024 + number * 56;
            put(&mut image, at, &kind.to_le_bytes());
            put(&mut image, at + 0x18, &address.to_le_bytes());
            put(&mut image, at + 0x28, &size.to_le_bytes());
        }
        let end = end_of(&mut Cursor::new(&image)).unwrap();
        assert_eq!(end, Some((1 << 24) + 100));
        assert!(end_of(&mut Cursor::new(&image[..1060])).is_err(), "cut off");
    }

    #[test]
    fn a_bzimage_says_where_it_wants_to_be() {
        let mut image = vec![0; 4096];
        put(&mut image, MAGIC_AT, MAGIC);
        put(&mut image, ADDRESS_AT, &(16_u64 << 20).to_le_bytes());
        put(&mut image, SIZE_AT, &(40_u32 << 20).to_le_bytes());
        put(&mut image, VERSION_AT, &0x0209_u16.to_le_bytes());
        assert_eq!(
            end_of(&mut Cursor::new(&image)).unwrap(),
            None,
            "an old one"
        );
        put(&mut image, VERSION_AT, &0x020f_u16.to_le_bytes());
        assert_eq!(end_of(&mut Cursor::new(&image)).unwrap(), Some(56 << 20));
        assert_eq!(end_of(&mut Cursor::new(vec![7; 4096])).unwrap(), None);
    }
}
