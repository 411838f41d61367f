//! The guest's RAM, from outside: a file that QEMU maps privately, and the pages of that mapping.
//!
//! A page that QEMU (the guest, a device) has written is a copy of its own: present in the process
//! and not of the file, which `/proc/PID/pagemap` shows (`proc_pid_pagemap(5)`: bit 63 present, 62
//! swapped, 61 of a file). Reading and writing goes through `/proc/PID/mem`, which a parent may open
//! of its child.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use camino::Utf8Path;
use rustix::fs::{MemfdFlags, memfd_create};

/// Size of a page, bytes: of x86, which this file's guests are.
pub(crate) const PAGE: u64 = 4096;

const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_A_FILE: u64 = 1 << 61;

/// Pages whose state is read at once.
const BATCH: u64 = 64 * 1024;

/// Longest piece that is copied at once, bytes.
const PIECE: u64 = 1 << 20;

/// The file that RAM is mapped from.
#[derive(Debug)]
pub(crate) struct GuestMemory {
    file: File,
    bytes: u64,
}

/// A part of the mapping in QEMU's address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Area {
    start: u64,
    bytes: u64,
    /// Where in the file it begins.
    offset: u64,
}

impl GuestMemory {
    /// RAM of zeros.
    pub(crate) fn empty(bytes: u64) -> io::Result<Self> {
        let file = File::from(memfd_create("provium-ram", MemfdFlags::CLOEXEC)?);
        file.set_len(bytes)?;
        Ok(Self { file, bytes })
    }

    /// RAM as `path` has it.
    pub(crate) fn of_file(path: &Utf8Path, bytes: u64) -> io::Result<Self> {
        let file = File::open(path)?;
        Ok(Self { file, bytes })
    }

    /// The same memory once more.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        let file = self.file.try_clone()?;
        Ok(Self {
            file,
            bytes: self.bytes,
        })
    }

    /// The file, for QEMU.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Gives all pages that process `pid` has written, in pieces of ascending runs, to `take`: the
    /// first page's number, and the bytes. The process must be paused.
    pub(crate) fn each_written(
        &self,
        pid: u32,
        mut take: impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let pagemap = File::open(format!("/proc/{pid}/pagemap"))?;
        let memory = File::open(format!("/proc/{pid}/mem"))?;
        let mut buffer = vec![0; PIECE as usize];
        for area in self.areas(pid)? {
            each_run(&pagemap, area, |first, pages| {
                let (mut at, end) = (first * PAGE, (first + pages) * PAGE);
                while at < end {
                    let count = (end - at).min(PIECE);
                    let piece = &mut buffer[..count as usize];
                    memory.read_exact_at(piece, area.start + (at - area.offset))?;
                    take(at / PAGE, piece)?;
                    at += count;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Opens the RAM of process `pid` for writing, before its guest runs.
    pub(crate) fn writer(&self, pid: u32) -> io::Result<MemoryWriter> {
        let memory = File::options()
            .write(true)
            .open(format!("/proc/{pid}/mem"))?;
        let areas = self.areas(pid)?;
        Ok(MemoryWriter { memory, areas })
    }

    /// Pages of the RAM.
    pub(crate) fn pages(&self) -> u64 {
        self.bytes / PAGE
    }

    /// Where process `pid` has the file mapped.
    fn areas(&self, pid: u32) -> io::Result<Vec<Area>> {
        let maps = fs_err::read_to_string(format!("/proc/{pid}/maps"))?;
        let metadata = self.file.metadata()?;
        let device = (
            rustix::fs::major(metadata.dev()),
            rustix::fs::minor(metadata.dev()),
        );
        let mut areas: Vec<Area> = maps
            .lines()
            .filter_map(|line| area(line, device, metadata.ino()))
            .collect();
        areas.sort_by_key(|area| area.offset);
        let mapped: u64 = areas.iter().map(|area| area.bytes).sum();
        if mapped != self.bytes {
            let bytes = self.bytes;
            return Err(io::Error::other(format!(
                "process {pid} has {mapped} bytes of the guest's RAM mapped, not {bytes}"
            )));
        }
        Ok(areas)
    }
}

/// Writes into a process's RAM.
#[derive(Debug)]
pub(crate) struct MemoryWriter {
    memory: File,
    areas: Vec<Area>,
}

impl MemoryWriter {
    /// Whole pages, from page number `first` on.
    pub(crate) fn write(&self, first: u64, bytes: &[u8]) -> io::Result<()> {
        let (start, end) = (first * PAGE, first * PAGE + bytes.len() as u64);
        for area in &self.areas {
            let from = start.max(area.offset);
            let to = end.min(area.offset + area.bytes);
            if from < to {
                let piece = &bytes[(from - start) as usize..(to - start) as usize];
                self.memory
                    .write_all_at(piece, area.start + (from - area.offset))?;
            }
        }
        Ok(())
    }
}

/// A line of `proc_pid_maps(5)`: `START-END PERMS OFFSET MAJOR:MINOR INODE PATH`.
fn area(line: &str, device: (u32, u32), inode: u64) -> Option<Area> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let offset = fields.nth(1)?;
    let (major, minor) = fields.next()?.split_once(':')?;
    let hex = |text| u64::from_str_radix(text, 16).ok();
    let found = (hex(major)?, hex(minor)?);
    if found != (u64::from(device.0), u64::from(device.1)) || fields.next()?.parse() != Ok(inode) {
        return None;
    }
    let start = hex(start)?;
    Some(Area {
        start,
        bytes: hex(end)?.checked_sub(start)?,
        offset: hex(offset)?,
    })
}

/// Gives the runs of written pages of an area, as page numbers of the file.
fn each_run(
    pagemap: &File,
    area: Area,
    mut take: impl FnMut(u64, u64) -> io::Result<()>,
) -> io::Result<()> {
    let pages = area.bytes / PAGE;
    let mut entries = vec![0; (BATCH * 8).min(pages * 8) as usize];
    let mut run: Option<(u64, u64)> = None;
    let mut page = 0;
    while page < pages {
        let count = (pages - page).min(BATCH);
        let entries = &mut entries[..(count * 8) as usize];
        pagemap.read_exact_at(entries, (area.start / PAGE + page) * 8)?;
        let (words, _) = entries.as_chunks::<8>();
        for (index, word) in words.iter().enumerate() {
            let number = area.offset / PAGE + page + index as u64;
            run = match (run, is_written(u64::from_le_bytes(*word))) {
                (None, true) => Some((number, 1)),
                (Some((first, length)), true) => Some((first, length + 1)),
                (Some((first, length)), false) => {
                    take(first, length)?;
                    None
                }
                (None, false) => None,
            };
        }
        page += count;
    }
    run.map_or(Ok(()), |(first, length)| take(first, length))
}

fn is_written(entry: u64) -> bool {
    entry & SWAPPED != 0 || (entry & PRESENT != 0 && entry & OF_A_FILE == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mapping_is_found_among_others() {
        let line = "7f0000000000-7f0000002000 rw-p 00001000 fd:01 77 /memfd:provium-ram (deleted)";
        let expected = Area {
            start: 0x7f00_0000_0000,
            bytes: 0x2000,
            offset: 0x1000,
        };
        assert_eq!(area(line, (0xfd, 1), 77), Some(expected));
        assert_eq!(area(line, (0xfd, 1), 78), None);
        assert_eq!(area(line, (0, 1), 77), None);
        assert_eq!(area("7f00-7f01 rw-p 0 00:00 0", (0xfd, 1), 77), None);
        assert_eq!(area("", (0, 0), 0), None);
    }

    #[test]
    fn a_written_page_is_the_processs_own() {
        assert!(is_written(PRESENT | 5));
        assert!(is_written(SWAPPED));
        assert!(!is_written(PRESENT | OF_A_FILE), "of the file, only read");
        assert!(!is_written(0), "never touched");
    }
}
