//! The content of a disk, and what of it is durable.
//!
//! # The volatile cache
//!
//! As a drive, a disk has a cache: a write that has completed is read back at once, and is durable only after a flush,
//! or if it came with FUA. The cache is bounded; when it is full, the oldest writes become durable.
//!
//! A cache can keep new data (a redo log) or old data (an undo log). This one keeps neither: a write never changes a
//! block in its slot, it takes a new slot and changes the map. A record of a write is therefore two short lists of
//! slots, the old ones and the new ones. A flush forgets the records and frees the old slots. A power cut walks the
//! records backwards and puts the old slots back. So what is never asked for costs one entry of a list for each write:
//! no data is read or copied for it.
//!
//! The log is the same list, kept for longer: it costs the space of the slots, and no time.
//!
//! With a base that is written in place the image has exactly what is durable: a flush copies from the slots to it.
//!
//! # Locks
//!
//! Data is written to slots that nothing refers to without the lock; the map changes under it. Readers hold it shared
//! while they read, so that no slot is freed and taken again below them.

use crate::base::BaseLayer;
use crate::geometry::{BLOCK, SECTOR, Span, to_usize};
use crate::overlay::{Address, BlockMap, Place, Run, Runs, SlotFile, Slots, block_buffer};
use crate::record::{Record, RecordKind};
use camino::Utf8PathBuf;
use rustix::io::Errno;
use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Bytes that are kept volatile.
pub(crate) const CACHE_LIMIT: u64 = 64 << 20;

/// See the documentation of the module.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) sectors: u64,
    pub(crate) base: BaseLayer,
    /// The folder for files of the overlay.
    pub(crate) scratch: Utf8PathBuf,
    /// All files of the overlay. All but the last are sealed.
    pub(crate) files: Vec<Arc<SlotFile>>,
    /// The slots of the last file; none if that is sealed as well.
    pub(crate) slots: Option<Slots>,
    pub(crate) map: BlockMap,
    /// Oldest first: all that is volatile, and before it the rest of the log.
    pub(crate) records: VecDeque<Record>,
    /// The number of the last command that was recorded.
    pub(crate) last: u64,
    /// Records up to this number are durable.
    pub(crate) flushed: u64,
    pub(crate) unflushed: Unflushed,
    /// What all records hold, bytes.
    pub(crate) held: u64,
    pub(crate) cache_limit: u64,
    /// If it is kept.
    pub(crate) log: Option<LogState>,
    pub(crate) is_on: bool,
}

/// What is volatile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Unflushed {
    pub(crate) writes: u64,
    pub(crate) bytes: u64,
    held: u64,
}

/// How the log is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogState {
    /// The number of the last command before it.
    pub(crate) start: u64,
    /// Bytes that it may hold.
    pub(crate) limit: u64,
    /// Whether entries were dropped because it was full.
    pub(crate) was_cut: bool,
}

/// Slots that a write has taken and fills.
pub(crate) struct Taken {
    pub(crate) file: Arc<SlotFile>,
    id: u16,
    slot: u64,
    blocks: u64,
}

impl Taken {
    /// Writes data that begins so many bytes after the start of the first slot.
    pub(crate) fn write(&self, skip: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(self.slot, skip, data)
    }

    pub(crate) fn address(&self) -> Address {
        Address::slot(self.id, self.slot)
    }
}

impl State {
    /// A disk that has what its base has.
    pub(crate) fn new(sectors: u64, base: BaseLayer, scratch: Utf8PathBuf) -> Self {
        Self {
            sectors,
            base,
            scratch,
            files: Vec::new(),
            slots: None,
            map: BlockMap::default(),
            records: VecDeque::new(),
            last: 0,
            flushed: 0,
            unflushed: Unflushed::default(),
            held: 0,
            cache_limit: CACHE_LIMIT,
            log: None,
            is_on: true,
        }
    }

    /// Reads bytes; the range is within the disk.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let first = offset / BLOCK;
        let end = (offset + buffer.len() as u64).div_ceil(BLOCK);
        let mut skip = offset % BLOCK;
        let mut block = first;
        let mut rest = buffer;
        for run in self.map.runs_in(first, end - first) {
            let length = (run.blocks * BLOCK - skip).min(rest.len() as u64);
            let (part, after) = rest.split_at_mut(to_usize(length));
            self.read_run(run.address, block, skip, part)?;
            rest = after;
            block += run.blocks;
            skip = 0;
        }
        Ok(())
    }

    fn read_run(&self, address: Address, block: u64, skip: u64, part: &mut [u8]) -> io::Result<()> {
        match address.place() {
            Place::Base => self.base.read(block * BLOCK + skip, part),
            Place::Zeroes => {
                part.fill(0);
                Ok(())
            }
            Place::Slot { file, slot } => match self.files.get(usize::from(file)) {
                Some(file) => file.read(slot, skip, part),
                None => Err(io::ErrorKind::InvalidData.into()),
            },
        }
    }

    /// A block as it is, or was, at an address.
    pub(crate) fn read_block(&self, block: u64, address: Address) -> io::Result<[u8; 4096]> {
        let mut buffer = block_buffer();
        self.read_run(address, block, 0, &mut buffer)?;
        Ok(buffer)
    }

    /// The address of blocks that are zeroes.
    pub(crate) fn zeroes(&self) -> Address {
        match self.base {
            BaseLayer::Zeroes => Address::BASE,
            BaseLayer::Image(_) | BaseLayer::InPlace(_) => Address::ZEROES,
        }
    }

    /// Takes slots that follow each other, for the caller to fill.
    pub(crate) fn take(&mut self, blocks: u64) -> io::Result<Taken> {
        if self.slots.is_none() {
            self.files.push(Arc::new(SlotFile::create(&self.scratch)?));
            self.slots = Some(Slots::default());
        }
        let (Some(slots), Some(file)) = (&mut self.slots, self.files.last()) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        Ok(Taken {
            file: Arc::clone(file),
            id: u16::try_from(self.files.len() - 1).map_err(io::Error::other)?,
            slot: slots.take(blocks),
            blocks,
        })
    }

    /// Whether slots were taken from the file that is still being written to.
    pub(crate) fn is_current(&self, taken: &Taken) -> bool {
        self.slots.is_some()
            && (self.files.last()).is_some_and(|file| Arc::ptr_eq(file, &taken.file))
    }

    /// Frees what was taken, after a failure.
    pub(crate) fn give_back(&mut self, taken: &Taken) {
        if self.is_current(taken) {
            self.release(&Runs::one(taken.address(), taken.blocks), false);
        }
    }

    /// Frees the slots that nothing refers to any more. Those of sealed files are not reused.
    pub(crate) fn release(&mut self, runs: &Runs, punch: bool) {
        let Some(slots) = &mut self.slots else { return };
        let current = self.files.len() - 1;
        for run in runs.iter() {
            if let Place::Slot { file, slot } = run.address.place()
                && usize::from(file) == current
            {
                slots.free(slot, run.blocks);
                if punch && let Some(file) = self.files.last() {
                    file.punch(slot, run.blocks);
                }
            }
        }
    }

    /// Makes data that was written to slots the content of its sectors. The edges are completed with what is there.
    pub(crate) fn publish(
        &mut self,
        taken: &Taken,
        span: Span,
        is_durable: bool,
    ) -> io::Result<()> {
        for block in span.edges(self.sectors) {
            let below = self.read_block(block, self.map.get(block))?;
            let covered = span.within(block);
            let start = (block - span.first_block()) * BLOCK;
            taken.write(start, &below[..covered.start])?;
            taken.write(start + covered.end as u64, &below[covered.end..])?;
        }
        let new = Runs::one(taken.address(), taken.blocks);
        self.record(RecordKind::Write, span, new, is_durable)
    }

    /// Makes sectors zeroes.
    pub(crate) fn store_zeroes(
        &mut self,
        kind: RecordKind,
        span: Span,
        is_durable: bool,
    ) -> io::Result<()> {
        let zeroes = self.zeroes();
        let mut new = Runs::one(zeroes, span.blocks());
        for block in span.edges(self.sectors) {
            let address = self.map.get(block);
            if address == zeroes {
                continue;
            }
            let mut buffer = self.read_block(block, address)?;
            buffer[span.within(block)].fill(0);
            let taken = self.take(1)?;
            if let Err(error) = taken.write(0, &buffer) {
                self.give_back(&taken);
                self.release(&new, false);
                return Err(error);
            }
            new = new.with(block - span.first_block(), taken.address());
        }
        let recorded = self.record(kind, span, new.clone(), is_durable);
        if recorded.is_err() {
            self.release(&new, false);
        }
        recorded
    }

    /// Changes the map. If that fails, the slots are still the caller's.
    fn record(
        &mut self,
        kind: RecordKind,
        span: Span,
        new: Runs,
        is_durable: bool,
    ) -> io::Result<()> {
        let first = span.first_block();
        let old = self.map.runs(first, span.blocks());
        self.map.set(first, &new);
        if is_durable && let Err(error) = self.write_through(span) {
            self.map.set(first, &old);
            return Err(error);
        }
        self.last += 1;
        self.push(Record {
            sequence: self.last,
            kind,
            span,
            is_durable,
            old,
            new,
        });
        self.trim();
        Ok(())
    }

    /// Appends a record of what the map has already.
    pub(crate) fn push(&mut self, record: Record) {
        let held = record.held();
        self.held += held;
        if !record.is_durable && record.sequence > self.flushed {
            self.unflushed.writes += 1;
            self.unflushed.bytes += record.span.bytes();
            self.unflushed.held += held;
        }
        self.records.push_back(record);
    }

    /// Makes all durable.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.write_back()?;
        if self.log.is_some() {
            self.mark_boundary(RecordKind::Flush);
        }
        self.flushed = self.last;
        self.unflushed = Unflushed::default();
        self.forget_records();
        self.clear_written_back();
        Ok(())
    }

    /// Records something that made all before it durable.
    pub(crate) fn mark_boundary(&mut self, kind: RecordKind) {
        self.last += 1;
        self.push(Record {
            sequence: self.last,
            kind,
            span: Span { first: 0, count: 0 },
            is_durable: true,
            old: Runs::default(),
            new: Runs::default(),
        });
    }

    /// Keeps the cache and the log within their bounds.
    fn trim(&mut self) {
        if self.unflushed.held > self.cache_limit && self.base.in_place().is_some() {
            // What the host cannot take stays volatile; the guest learns of it by its next flush.
            let _ = self.flush();
            return;
        }
        while self.unflushed.held > self.cache_limit {
            let at = self.first_unflushed();
            let Some(record) = self.records.get(at) else {
                break;
            };
            self.flushed = record.sequence;
            if !record.is_durable {
                self.unflushed.writes -= 1;
                self.unflushed.bytes -= record.span.bytes();
                self.unflushed.held -= record.held();
            }
        }
        self.forget_records();
    }

    /// The place of the first record after those that were made durable together.
    pub(crate) fn first_unflushed(&self) -> usize {
        self.records
            .partition_point(|record| record.sequence <= self.flushed)
    }

    /// Drops durable records from the front: all of them, or, with a log, what is beyond its bound.
    pub(crate) fn forget_records(&mut self) {
        while let Some(front) = self.records.front()
            && (front.is_durable || front.sequence <= self.flushed)
        {
            if let Some(log) = &mut self.log {
                if self.held <= log.limit {
                    return;
                }
                log.was_cut = true;
            }
            let Some(record) = self.records.pop_front() else {
                return;
            };
            self.held -= record.held();
            self.release(&record.old, record.kind == RecordKind::Discard);
        }
    }

    /// Copies all that the map has to the image that is written in place.
    pub(crate) fn write_back(&self) -> io::Result<()> {
        let Some(image) = self.base.in_place() else {
            return Ok(());
        };
        for (block, run) in self.map.mapped() {
            self.copy_to(&image.file, block, run)?;
        }
        Ok(())
    }

    /// After [`Self::write_back`], when nothing needs the slots.
    pub(crate) fn clear_written_back(&mut self) {
        if self.base.in_place().is_none() || !self.records.is_empty() {
            return;
        }
        let runs: Vec<_> = self.map.mapped().map(|(_, run)| run).collect();
        for run in runs {
            self.release(&Runs::one(run.address, run.blocks), false);
        }
        self.map.clear();
    }

    fn write_through(&self, span: Span) -> io::Result<()> {
        let Some(image) = self.base.in_place() else {
            return Ok(());
        };
        let mut buffer = vec![0; to_usize(span.bytes().min(1 << 20))];
        let (mut at, end) = (span.first * SECTOR, span.end() * SECTOR);
        while at < end {
            let part = &mut buffer[..to_usize((end - at).min(1 << 20))];
            self.read(at, part)?;
            image.file.write_all_at(part, at)?;
            at += part.len() as u64;
        }
        image.file.sync_data()
    }

    /// Copies a run to the same place of an image.
    pub(crate) fn copy_to(&self, image: &std::fs::File, first: u64, run: Run) -> io::Result<()> {
        let mut buffer = vec![0; to_usize((run.blocks * BLOCK).min(1 << 20))];
        let (mut at, end) = (
            first * BLOCK,
            ((first + run.blocks) * BLOCK).min(self.sectors * SECTOR),
        );
        while at < end {
            let part = &mut buffer[..to_usize((end - at).min(1 << 20))];
            let address = run.address.after(at / BLOCK - first);
            self.read_run(address, at / BLOCK, 0, part)?;
            image.write_all_at(part, at)?;
            at += part.len() as u64;
        }
        Ok(())
    }
}

/// What a guest is answered when the host fails.
pub(crate) fn errno(error: &io::Error) -> Errno {
    match Errno::from_io_error(error) {
        // The host has no space for the overlay, in one way or another.
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Errno::NOSPC,
        Some(Errno::PERM) => Errno::PERM,
        _ => Errno::IO,
    }
}
