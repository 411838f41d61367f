//! The little of ELF that is needed: sections of modules, notes of kernels.
//!
//! Source: `elf(5)`; 64 bits, little-endian, which is all that this harness boots. Every offset and
//! length is checked against the bytes that are there.

/// x86-64, in `e_machine`.
const MACHINE: u16 = 62;
/// Segment types.
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_NOTE: u32 = 4;

/// The note that names a kernel's 32-bit entry for PVH (the kernel's include/xen/interface/elfnote.h).
const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;

/// A 64-bit little-endian ELF file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Elf<'a>(&'a [u8]);

impl<'a> Elf<'a> {
    /// `None` if the bytes are none.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        (bytes.starts_with(b"\x7fELF\x02\x01") && bytes.len() >= 64).then_some(Self(bytes))
    }

    pub(crate) fn is_x86_64(self) -> bool {
        number::<2>(self.0, 18) == Some(MACHINE.into())
    }

    /// The content of the section of that name.
    pub(crate) fn section(self, name: &str) -> Option<&'a [u8]> {
        let offset = number::<8>(self.0, 40)?;
        let count = number::<2>(self.0, 60)?;
        let names = self.section_at(offset, number::<2>(self.0, 62)?)?;
        let names = names.content(self.0)?;
        (0..count)
            .filter_map(|index| self.section_at(offset, index))
            .find_map(|section| {
                let found = names.get(usize::try_from(section.name).ok()?..)?;
                let end = found.iter().position(|byte| *byte == 0)?;
                if &found[..end] == name.as_bytes() {
                    section.content(self.0)
                } else {
                    None
                }
            })
    }

    /// Whether it asks for a dynamic loader.
    pub(crate) fn is_dynamic(self) -> bool {
        self.segments().any(|segment| segment.kind == PT_INTERP)
    }

    /// What its segments take in memory when it is loaded, and the physical address where the last of
    /// them ends.
    pub(crate) fn loaded_size(self) -> (u64, u64) {
        let loaded = self.segments().filter(|segment| segment.kind == PT_LOAD);
        loaded.fold((0, 0), |(size, end): (u64, u64), segment| {
            let segment_end = segment.address.saturating_add(segment.size_in_memory);
            (
                size.saturating_add(segment.size_in_memory),
                end.max(segment_end),
            )
        })
    }

    /// Whether it can be started as a PVH guest.
    pub(crate) fn has_pvh_entry(self) -> bool {
        self.segments()
            .filter(|segment| segment.kind == PT_NOTE)
            .any(|segment| {
                let Some(mut notes) = slice(self.0, segment.offset, segment.size) else {
                    return false;
                };
                while let Some((note, rest)) = Note::split(notes) {
                    if note.kind == XEN_ELFNOTE_PHYS32_ENTRY && note.name == b"Xen\0" {
                        return true;
                    }
                    notes = rest;
                }
                false
            })
    }

    fn section_at(self, table: u64, index: u64) -> Option<Section> {
        let header = slice(self.0, table.checked_add(index * 64)?, 64)?;
        Some(Section {
            name: number::<4>(header, 0)?,
            offset: number::<8>(header, 24)?,
            size: number::<8>(header, 32)?,
        })
    }

    fn segments(self) -> impl Iterator<Item = Segment> + 'a {
        let table = number::<8>(self.0, 32).unwrap_or(u64::MAX);
        let count = number::<2>(self.0, 56).unwrap_or(0);
        (0..count).map_while(move |index| {
            let header = slice(self.0, table.checked_add(index * 56)?, 56)?;
            Some(Segment {
                kind: u32::try_from(number::<4>(header, 0)?).ok()?,
                offset: number::<8>(header, 8)?,
                address: number::<8>(header, 24)?,
                size: number::<8>(header, 32)?,
                size_in_memory: number::<8>(header, 40)?,
            })
        })
    }
}

struct Section {
    name: u64,
    offset: u64,
    size: u64,
}

impl Section {
    fn content<'a>(&self, file: &'a [u8]) -> Option<&'a [u8]> {
        slice(file, self.offset, self.size)
    }
}

struct Segment {
    kind: u32,
    offset: u64,
    /// Physical.
    address: u64,
    size: u64,
    size_in_memory: u64,
}

struct Note<'a> {
    kind: u32,
    name: &'a [u8],
}

impl<'a> Note<'a> {
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let name_len = number::<4>(bytes, 0)?;
        let content_len = number::<4>(bytes, 4)?;
        let kind = u32::try_from(number::<4>(bytes, 8)?).ok()?;
        let name = slice(bytes, 12, name_len)?;
        let content = 12 + name_len.next_multiple_of(4);
        let end = content.checked_add(content_len.next_multiple_of(4))?;
        let rest = bytes.get(usize::try_from(end).ok()?..).unwrap_or_default();
        Some((Self { kind, name }, rest))
    }
}

fn slice(bytes: &[u8], offset: u64, length: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = usize::try_from(offset.checked_add(length)?).ok()?;
    bytes.get(start..end)
}

/// The little-endian number of `N` bytes at `at`.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(N)?)?;
    Some(
        field
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)),
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(segments: u16, sections: u16, section_table: usize) -> Vec<u8> {
        let mut out = b"\x7fELF\x02\x01\x01".to_vec();
        out.resize(64, 0);
        out[16..18].copy_from_slice(&2_u16.to_le_bytes());
        out[18..20].copy_from_slice(&MACHINE.to_le_bytes());
        out[32..40].copy_from_slice(&64_u64.to_le_bytes());
        out[40..48].copy_from_slice(&(section_table as u64).to_le_bytes());
        out[54..56].copy_from_slice(&56_u16.to_le_bytes());
        out[56..58].copy_from_slice(&segments.to_le_bytes());
        out[58..60].copy_from_slice(&64_u16.to_le_bytes());
        out[60..62].copy_from_slice(&sections.to_le_bytes());
        out[62..64].copy_from_slice(&1_u16.to_le_bytes());
        out
    }

    fn with_segment(kind: u32, content: &[u8]) -> Vec<u8> {
        let mut out = header(1, 0, 0);
        let mut segment = vec![0; 56];
        segment[0..4].copy_from_slice(&kind.to_le_bytes());
        segment[8..16].copy_from_slice(&120_u64.to_le_bytes());
        segment[32..40].copy_from_slice(&(content.len() as u64).to_le_bytes());
        out.extend(segment);
        out.extend(content);
        out
    }

    /// A kernel: with a note before the one that counts, or without it.
    pub(crate) fn kernel(pvh: bool) -> Vec<u8> {
        let mut notes = Vec::new();
        for (kind, content) in [
            (6_u32, &b"linux"[..]),
            (if pvh { 18 } else { 1 }, &[0; 4][..]),
        ] {
            notes.extend(4_u32.to_le_bytes());
            notes.extend((content.len() as u32).to_le_bytes());
            notes.extend(kind.to_le_bytes());
            notes.extend(b"Xen\0");
            notes.extend(content);
            notes.resize(notes.len().next_multiple_of(4), 0);
        }
        with_segment(PT_NOTE, &notes)
    }

    /// A kernel that is loaded to an address, and its length there in bytes.
    pub(crate) fn kernel_at(address: u64, size: u64) -> Vec<u8> {
        let mut out = with_segment(PT_LOAD, b"kernel");
        out[64 + 24..64 + 32].copy_from_slice(&address.to_le_bytes());
        out[64 + 40..64 + 48].copy_from_slice(&size.to_le_bytes());
        out
    }

    pub(crate) fn program(dynamic: bool) -> Vec<u8> {
        with_segment(if dynamic { PT_INTERP } else { 1 }, b"/lib64/ld.so\0")
    }

    /// A module with such lines in its `.modinfo`.
    pub(crate) fn module(lines: &[&str]) -> Vec<u8> {
        let names = b"\0.strtab\0.modinfo\0";
        let info: Vec<u8> = lines
            .iter()
            .flat_map(|line| [line.as_bytes(), b"\0"].concat())
            .collect();
        let table = 64 + names.len() + info.len();
        let mut out = header(0, 3, table);
        out.extend(names);
        out.extend(&info);
        for (name, offset, size) in [
            (0_u32, 0, 0),
            (1, 64, names.len()),
            (9, 64 + names.len(), info.len()),
        ] {
            let mut section = vec![0; 64];
            section[0..4].copy_from_slice(&name.to_le_bytes());
            section[24..32].copy_from_slice(&(offset as u64).to_le_bytes());
            section[32..40].copy_from_slice(&(size as u64).to_le_bytes());
            out.extend(section);
        }
        out
    }

    #[test]
    fn notes_and_sections_are_found() {
        assert!(Elf::parse(&kernel(true)).unwrap().has_pvh_entry());
        assert!(!Elf::parse(&kernel(false)).unwrap().has_pvh_entry());
        assert!(Elf::parse(&program(true)).unwrap().is_dynamic());
        assert!(!Elf::parse(&program(false)).unwrap().is_dynamic());
        let module = module(&["name=x"]);
        let elf = Elf::parse(&module).unwrap();
        assert_eq!(elf.section(".modinfo"), Some(&b"name=x\0"[..]));
        assert_eq!(elf.section(".text"), None);
        assert!(elf.is_x86_64());
        assert!(Elf::parse(b"\x7fELF\x01\x01").is_none());
    }

    proptest! {
        #[test]
        fn damage_never_panics(changes in prop::collection::vec((0..300_usize, any::<u8>()), 1..8)) {
            for mut bytes in [kernel(true), module(&["name=x"])] {
                for (at, byte) in &changes {
                    let at = at % bytes.len();
                    bytes[at] = *byte;
                }
                if let Some(elf) = Elf::parse(&bytes) {
                    let _ = (elf.has_pvh_entry(), elf.section(".modinfo"), elf.is_dynamic());
                }
            }
        }
    }
}
