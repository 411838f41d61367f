//! The content of a disk, and which part of it is durable.
//!
//! # The volatile cache
//!
//! As a drive, a disk has a cache: a write that has completed is read back at once, and is durable only after a flush,
//! or if it came with FUA. The cache is bounded; when it is full, the oldest writes become durable.
//!
//! A cache can keep new data (a redo log) or old data (an undo log). This one keeps neither: a write never changes a
//! block in its slot, it takes a new slot and changes the map. A record of a write is therefore two short lists of
//! slots, the old ones and the new ones. A flush forgets the records and frees the old slots. A power cut walks the
//! records backwards and puts the old slots back. So power cuts and the log cost one entry of a list for each write:
//! no data is read or copied for them.
//!
//! Measured without a guest on a shared host, beside a plain file in the same folder: sequential writes and reads of
//! 64 KiB and 1 MiB at 0.75 to 1.4 of its throughput, random ones of 4 KiB at 0.6 to 1.1 (4 µs each). The weak spots
//! are reads across blocks that were written one by one (0.3 to 0.6), and writes of a part of a block, which read the
//! rest. `benches/layers.rs` prints these figures.
//!
//! The log is the same list, kept for longer: it costs the space of the slots, and no time.
//!
//! With a base that is written in place the image has exactly what is durable: a flush copies from the slots to it, and
//! the log needs copies of the blocks that it overwrites.
//!
//! # Locks
//!
//! Data is written to slots that nothing refers to without the lock; the map changes under it. Readers hold it shared
//! while they read, so that no slot is freed and taken again below them.

use crate::export::FlushPoint;
use crate::geometry::{BLOCK, SECTOR, Span, to_usize};
use crate::layers::{Layers, TakenSlots};
use crate::overlay::{Address, Run, Runs, block_buffer};
use crate::record::{Record, RecordKind};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes that are kept volatile.
pub(crate) const CACHE_LIMIT: u64 = 64 << 20;

/// See the documentation of the module.
#[derive(Debug)]
pub(crate) struct State {
    /// The content.
    pub(crate) layers: Layers,
    /// Oldest first: all that is volatile, and before it the rest of the log.
    pub(crate) records: VecDeque<Record>,
    /// The number of the last command that was recorded.
    pub(crate) last: u64,
    /// Records up to this number are durable.
    pub(crate) flushed: u64,
    pub(crate) unflushed: VolatileWrites,
    /// The weight of all records, bytes.
    pub(crate) held: u64,
    pub(crate) cache_limit: u64,
    /// `None` without a log.
    pub(crate) log: Option<LogState>,
    pub(crate) is_on: bool,
    /// Whether an image that is written in place may have data of writes that are volatile: a flush of them has failed
    /// half way, or is prepared and not completed.
    pub(crate) is_image_ahead: bool,
}

/// What is volatile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct VolatileWrites {
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
    /// The number of the last entry that was dropped because it was full; 0: none was.
    pub(crate) dropped: u64,
    /// The number of the last command when the disk was saved, if it was restored since: nothing is missing after a
    /// mark of that moment.
    pub(crate) saved_at: Option<u64>,
}

impl LogState {
    /// Whether it lacks entries after that place.
    pub(crate) fn lacks_after(&self, place: u64) -> bool {
        let is_saved = self.saved_at == Some(place) && self.dropped == 0;
        place < self.start.max(self.dropped) && !is_saved
    }
}

impl VolatileWrites {
    fn add(&mut self, record: &Record) {
        self.writes += 1;
        self.bytes += record.span.bytes();
        self.held += record.held;
    }
}

impl State {
    /// A disk that has what its base has.
    pub(crate) fn new(layers: Layers) -> Self {
        Self {
            layers,
            records: VecDeque::new(),
            last: 0,
            flushed: 0,
            unflushed: VolatileWrites::default(),
            held: 0,
            cache_limit: CACHE_LIMIT,
            log: None,
            is_on: true,
            is_image_ahead: false,
        }
    }

    /// # Errors
    /// What a command of the guest gets while the power is off.
    pub(crate) fn check_power(&self) -> Result<(), Errno> {
        if self.is_on { Ok(()) } else { Err(Errno::IO) }
    }

    /// Makes data that was written to slots the content of its sectors. The edges are completed with what is there.
    pub(crate) fn publish(
        &mut self,
        taken: &TakenSlots,
        span: Span,
        is_durable: bool,
    ) -> io::Result<()> {
        for block in span.edges(self.layers.sectors) {
            let below = self.layers.read_block(block, self.layers.map.get(block))?;
            let covered = span.within(block);
            let start = (block - span.first_block()) * BLOCK;
            taken.write(start, &below[..covered.start])?;
            taken.write(start + covered.end as u64, &below[covered.end..])?;
        }
        let new = taken.runs();
        self.record(RecordKind::Write, span, new, is_durable)
    }

    /// Writes a part of one block: completed in memory, it is one write.
    pub(crate) fn store_part(
        &mut self,
        span: Span,
        data: &[u8],
        is_durable: bool,
    ) -> io::Result<()> {
        let block = span.first_block();
        let mut whole = self.layers.read_block(block, self.layers.map.get(block))?;
        whole[span.within(block)].copy_from_slice(data);
        let taken = self.layers.take(1)?;
        let new = Runs::one(taken.address(), 1);
        let stored = (taken.write(0, &whole))
            .and_then(|()| self.record(RecordKind::Write, span, new, is_durable));
        if stored.is_err() {
            self.layers.give_back(&taken);
        }
        stored
    }

    /// Makes sectors zeroes.
    pub(crate) fn store_zeroes(
        &mut self,
        kind: RecordKind,
        span: Span,
        is_durable: bool,
    ) -> io::Result<()> {
        let zeroes = self.layers.zeroes();
        let mut new = Runs::one(zeroes, span.blocks());
        for block in span.edges(self.layers.sectors) {
            let address = self.layers.map.get(block);
            if address == zeroes {
                continue;
            }
            let mut buffer = self.layers.read_block(block, address)?;
            buffer[span.within(block)].fill(0);
            let taken = self.layers.take(1)?;
            if let Err(error) = taken.write(0, &buffer) {
                self.layers.give_back(&taken);
                self.layers.release(&new, false);
                return Err(error);
            }
            new = new.with(block - span.first_block(), taken.address());
        }
        let recorded = self.record(kind, span, new.clone(), is_durable);
        if recorded.is_err() {
            self.layers.release(&new, false);
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
        let mut old = self.layers.map.runs(first, span.blocks());
        if self.log.is_some() && self.layers.base.in_place().is_some() {
            old = self.keep_before(first, &old)?;
        }
        self.layers.map.set(first, &new);
        if is_durable && let Err(error) = self.write_through(span) {
            self.layers.map.set(first, &old);
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
            lost: Box::default(),
            held: 0,
        });
        self.trim();
        Ok(())
    }

    /// Appends a record of what the map has already.
    pub(crate) fn push(&mut self, mut record: Record) {
        let held = record.weigh();
        record.held = held;
        self.held += held;
        if !record.is_durable && record.sequence > self.flushed {
            self.unflushed.add(&record);
        }
        self.records.push_back(record);
    }

    /// Does what can fail of a flush of all that has completed: an image that is written in place gets the data. It is
    /// still volatile, so a power cut takes it out of the image again.
    pub(crate) fn prepare_flush(&mut self) -> io::Result<FlushPoint> {
        let from = self.first_unflushed();
        if self.layers.base.in_place().is_some() && from < self.records.len() {
            if self.log.is_none() {
                self.keep_all_before(from)?;
            }
            self.is_image_ahead = true;
            self.write_back(from)?;
        }
        Ok(FlushPoint(self.last))
    }

    /// Makes durable what had completed when the flush was prepared.
    pub(crate) fn complete_flush(&mut self, FlushPoint(point): FlushPoint) {
        if point == self.last {
            if self.log.is_some() {
                self.last += 1;
                self.push(Record::boundary(RecordKind::Flush, self.last));
            }
            self.flushed = self.last;
            self.unflushed = VolatileWrites::default();
            self.is_image_ahead = false;
        } else if point > self.flushed {
            self.complete_earlier_flush(point);
        }
        self.forget_records();
        self.clear_written_back();
    }

    /// The same, when further commands have completed since.
    fn complete_earlier_flush(&mut self, point: u64) {
        let later = (self.records).partition_point(|record| record.sequence <= point);
        if self.log.is_some() {
            // It shares the number of the last command that it covers: the next one is taken.
            let boundary = Record::boundary(RecordKind::Flush, point);
            self.held += boundary.held;
            self.records.insert(later, boundary);
        }
        self.flushed = point;
        self.count_unflushed();
    }

    /// Counts what is volatile, from scratch.
    pub(crate) fn count_unflushed(&mut self) {
        self.unflushed = VolatileWrites::default();
        let volatile = self.records.iter().skip(self.first_unflushed());
        for record in volatile.filter(|record| !record.is_durable) {
            self.unflushed.add(record);
        }
    }

    /// Keeps the cache and the log within their bounds.
    fn trim(&mut self) {
        if self.unflushed.held > self.cache_limit && self.layers.base.in_place().is_some() {
            // What the host cannot take stays volatile; the guest learns of it by its next flush.
            if let Ok(point) = self.prepare_flush() {
                self.complete_flush(point);
            }
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
                self.unflushed.held -= record.held;
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
                log.dropped = front.sequence;
            }
            let Some(record) = self.records.pop_front() else {
                return;
            };
            self.held -= record.held;
            self.layers
                .release(&record.old, record.kind == RecordKind::Discard);
        }
    }

    /// Copies what the records from this place on wrote to the image that is written in place.
    pub(crate) fn write_back(&self, from: usize) -> io::Result<()> {
        let records = self.records.iter().skip(from);
        self.write_back_spans(records.map(|record| record.span))
    }

    /// Copies these sectors, and the rest of their blocks, to the image that is written in place.
    pub(crate) fn write_back_spans(&self, spans: impl IntoIterator<Item = Span>) -> io::Result<()> {
        let Some(image) = self.layers.base.in_place() else {
            return Ok(());
        };
        for span in spans {
            let mut block = span.first_block();
            for run in self.layers.map.runs_in(block, span.blocks()) {
                if run.address != Address::BASE {
                    self.layers.copy_to(&image.file, block, run)?;
                }
                block += run.blocks;
            }
        }
        Ok(())
    }

    /// Copies blocks of an image that is written in place to slots, before it changes.
    pub(crate) fn keep_before(&mut self, first: u64, runs: &Runs) -> io::Result<Runs> {
        let mut kept = Runs::default();
        let mut copies = Runs::default();
        let mut block = first;
        for run in runs.iter() {
            if run.address == Address::BASE {
                for at in block..block + run.blocks {
                    match self.copy_of_base(at) {
                        Ok(copy) => {
                            copies.push(copy);
                            kept.push(copy);
                        }
                        Err(error) => {
                            self.layers.release(&copies, false);
                            return Err(error);
                        }
                    }
                }
            } else {
                kept.push(run);
            }
            block += run.blocks;
        }
        Ok(kept)
    }

    fn copy_of_base(&mut self, block: u64) -> io::Result<Run> {
        let data = self.layers.read_block(block, Address::BASE)?;
        let mut address = Address::ZEROES;
        if data != block_buffer() {
            let taken = self.layers.take(1)?;
            if let Err(error) = taken.write(0, &data) {
                self.layers.give_back(&taken);
                return Err(error);
            }
            address = taken.address();
        }
        Ok(Run { address, blocks: 1 })
    }

    /// After [`Self::write_back`], when nothing needs the slots.
    pub(crate) fn clear_written_back(&mut self) {
        if self.layers.base.in_place().is_none() || !self.records.is_empty() {
            return;
        }
        let runs: Vec<_> = self.layers.map.mapped().map(|(_, run)| run).collect();
        for run in runs {
            self.layers
                .release(&Runs::one(run.address, run.blocks), false);
        }
        self.layers.map.clear();
    }

    fn write_through(&self, span: Span) -> io::Result<()> {
        let Some(image) = self.layers.base.in_place() else {
            return Ok(());
        };
        let mut buffer = vec![0; to_usize(span.bytes().min(1 << 20))];
        let (mut at, end) = (span.first * SECTOR, span.end() * SECTOR);
        while at < end {
            let part = &mut buffer[..to_usize((end - at).min(1 << 20))];
            self.layers.read(at, part)?;
            image.file.write_all_at(part, at)?;
            at += part.len() as u64;
        }
        image.file.sync_data()
    }
}

/// The guest's error when the host fails.
pub(crate) fn errno(error: &io::Error) -> Errno {
    match Errno::from_io_error(error) {
        // The host has no space for the overlay, in one way or another.
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Errno::NOSPC,
        Some(Errno::PERM) => Errno::PERM,
        _ => Errno::IO,
    }
}
