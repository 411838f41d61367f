//! Copies of a disk, and its content as a file.

use crate::base::{BaseLayer, Image};
use crate::disk::Disk;
use crate::error::DiskError;
use crate::geometry::{BLOCK, SECTOR, to_usize};
use crate::layers::Layers;
use crate::overlay::{Address, PRIVATE, Place, Run, Runs, SlotFile, link_or_copy, unnamed};
use crate::sparse_copy::copy_sparse;
use crate::state::{LogState, State};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::Mode;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Sealed files that a disk refers to. Beyond that, the newer ones are joined; the oldest is left, as it usually is a
/// template's or a fixture's and the largest.
const MOST_FILES: usize = 8;

impl Disk {
    /// An independent copy of the disk as it is now, with its faults and with what is volatile. Both share the data
    /// that they have in common. If the image is written in place, it is copied.
    ///
    /// The log is not copied; if it is recorded, the copy records its own.
    ///
    /// # Errors
    /// The host cannot write the files.
    pub fn fork(&self, scratch: &Utf8Path) -> Result<Self, DiskError> {
        let copying = DiskError::io("copy");
        let mut state = self.0.state.write();
        let copy = state.copy(scratch).map_err(copying)?;
        let faults = self.0.faults.lock().clone();
        Ok(Self::with(copy, self.0.read_only, faults, self.0.seed))
    }

    /// Writes the content, with what is volatile, to a new sparse file, which gets the name `path` by
    /// [`UnnamedImage::link`]. Until then nothing is left of it when it is dropped, or when the process ends.
    ///
    /// # Errors
    /// There is a file at that path, or the host cannot write it.
    pub fn export(&self, path: &Utf8Path) -> Result<UnnamedImage, DiskError> {
        if path.symlink_metadata().is_ok() {
            return Err(not_exported(path, io::ErrorKind::AlreadyExists.into()));
        }
        let folder = path.parent().filter(|folder| !folder.as_str().is_empty());
        let mode = Mode::from_raw_mode(0o666);
        let file = unnamed(folder.unwrap_or(Utf8Path::new(".")), mode);
        let file = file.map_err(|error| not_exported(path, error))?;
        let exported = self.0.state.read().layers.export(&file);
        exported.map_err(|error| not_exported(path, error))?;
        Ok(UnnamedImage {
            file,
            path: path.to_owned(),
        })
    }
}

/// The content of a disk, in a file that has no name yet.
#[derive(Debug)]
pub struct UnnamedImage {
    file: File,
    path: Utf8PathBuf,
}

impl UnnamedImage {
    /// Gives the file its name.
    ///
    /// # Errors
    /// There is a file of that name meanwhile. On a file system that cannot do this, a copy is made, which the host may
    /// not be able to write.
    pub fn link(&self) -> Result<(), DiskError> {
        let linked = link_or_copy(&self.file, &self.path);
        linked.map_err(|error| not_exported(&self.path, error))
    }
}

fn not_exported(path: &Utf8Path, source: io::Error) -> DiskError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::AlreadyExists => DiskError::Exists { path },
        _ => DiskError::Export { path, source },
    }
}

impl State {
    /// An independent copy.
    pub(crate) fn copy(&mut self, scratch: &Utf8Path) -> io::Result<Self> {
        self.layers.seal();
        if self.layers.files.len() > MOST_FILES {
            let records = self.records.iter_mut();
            self.layers.join_files(
                records
                    .flat_map(|record| [&mut record.old, &mut record.new])
                    .collect(),
            )?;
        }
        let mut copy = Self::new(self.layers.copy(scratch)?);
        copy.last = self.last;
        copy.flushed = self.flushed;
        copy.cache_limit = self.cache_limit;
        copy.is_on = self.is_on;
        copy.log = self.log.map(|log| LogState {
            start: self.last,
            limit: log.limit,
            dropped: 0,
            saved_at: None,
        });
        for record in self.records.iter().skip(self.first_unflushed()) {
            copy.push(record.clone());
        }
        Ok(copy)
    }
}

impl Layers {
    /// The same content, once the files are sealed.
    fn copy(&self, scratch: &Utf8Path) -> io::Result<Self> {
        let base = match &self.base {
            BaseLayer::InPlace(image) => {
                let copy = unnamed(scratch, PRIVATE)?;
                copy_sparse(&image.file, &copy)?;
                BaseLayer::Image(Arc::new(Image {
                    file: copy,
                    path: None,
                    stamp: None,
                }))
            }
            shared => shared.clone(),
        };
        Ok(Self {
            files: self.files.clone(),
            map: self.map.clone(),
            ..Self::new(self.sectors, base, scratch.to_owned())
        })
    }

    /// Ends the writing to the files of the overlay: the next write begins a new one.
    fn seal(&mut self) {
        if self.slots.take().is_some_and(|slots| slots.is_empty()) {
            self.files.pop();
        }
    }

    /// Copies what is used of all files but the first one to a new file that replaces them. `others` are addresses that
    /// are kept outside of the map.
    fn join_files(&mut self, others: Vec<&mut Runs>) -> io::Result<()> {
        let moved = self.used_slots(&others);
        let joined = SlotFile::create(&self.scratch)?;
        let mut places = Vec::with_capacity(moved.len());
        let mut next = 0;
        for run in moved {
            let mut done = 0;
            let mut buffer = vec![0; to_usize((run.blocks * BLOCK).min(1 << 20))];
            while done < run.blocks {
                let part = (run.blocks - done).min(256);
                let part_buffer = &mut buffer[..to_usize(part * BLOCK)];
                self.read_slots(run.address.after(done), part_buffer)?;
                joined.write(next + done, 0, part_buffer)?;
                done += part;
            }
            places.push((run, next));
            next += run.blocks;
        }
        let translate = |runs: &Runs| translate(runs, &places);
        let mapped: Vec<_> = self.map.mapped().collect();
        for (first, run) in mapped {
            self.map
                .set(first, &translate(&Runs::one(run.address, run.blocks)));
        }
        for runs in others {
            *runs = translate(runs);
        }
        self.files.truncate(1);
        self.files.push(Arc::new(joined));
        Ok(())
    }

    fn read_slots(&self, address: Address, buffer: &mut [u8]) -> io::Result<()> {
        match address.place() {
            Place::Slot { file, slot } => self.files[usize::from(file)].read(slot, 0, buffer),
            Place::Base | Place::Zeroes => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// The slots of all files but the first one that something refers to, in order.
    fn used_slots(&self, others: &[&mut Runs]) -> Vec<Run> {
        let map = self.map.mapped().map(|(_, run)| run);
        let mut used: Vec<(u64, u64)> = map
            .chain(others.iter().flat_map(|runs| runs.iter()))
            .filter(|run| matches!(run.address.place(), Place::Slot { file, .. } if file > 0))
            .map(|run| (run.address.to_bits(), run.blocks))
            .collect();
        used.sort_unstable();
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for (start, blocks) in used {
            match runs.last_mut() {
                Some((first, length)) if start <= *first + *length => {
                    *length = (*length).max(start + blocks - *first);
                }
                _ => runs.push((start, blocks)),
            }
        }
        runs.into_iter()
            .map(|(start, blocks)| Run {
                address: Address::from_bits(start),
                blocks,
            })
            .collect()
    }

    fn export(&self, file: &File) -> io::Result<()> {
        match &self.base {
            BaseLayer::Zeroes => {}
            BaseLayer::Image(image) | BaseLayer::InPlace(image) => copy_sparse(&image.file, file)?,
        }
        file.set_len(self.sectors * SECTOR)?;
        for (block, run) in self.map.mapped() {
            if run.address == Address::ZEROES {
                let end = ((block + run.blocks) * BLOCK).min(self.sectors * SECTOR);
                write_zeroes(file, block * BLOCK, end)?;
            } else {
                self.copy_to(file, block, run)?;
            }
        }
        Ok(())
    }
}

fn write_zeroes(file: &File, mut at: u64, end: u64) -> io::Result<()> {
    let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    if rustix::fs::fallocate(file, flags, at, end - at).is_ok() {
        return Ok(());
    }
    let zeroes = vec![0; to_usize((end - at).min(1 << 20))];
    while at < end {
        let part = &zeroes[..to_usize((end - at).min(1 << 20))];
        file.write_all_at(part, at)?;
        at += part.len() as u64;
    }
    Ok(())
}

/// Where blocks are in the joined file, which is number 1.
fn translate(runs: &Runs, places: &[(Run, u64)]) -> Runs {
    let mut translated = Runs::default();
    for run in runs.iter() {
        let address = match run.address.place() {
            Place::Slot { file, .. } if file > 0 => {
                let bits = run.address.to_bits();
                let at = places.partition_point(|(used, _)| used.address.to_bits() <= bits);
                // Each run is part of a used one: these are its union.
                let (used, place) = places[at - 1];
                Address::slot(1, place + (bits - used.address.to_bits()))
            }
            _ => run.address,
        };
        translated.push(Run {
            address,
            blocks: run.blocks,
        });
    }
    translated
}
