//! The log: the guest's writes and flushes, in the order of completion.

use crate::disk::Disk;
use crate::error::DiskError;
use crate::geometry::Span;
use crate::record::{LostWrite, Record, RecordKind};
use crate::state::{LogState, State};
use serde::Serialize;
use std::io;

/// Bytes that a log holds.
const LOG_LIMIT: u64 = 256 << 20;

/// A position in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LogMark(pub u64);

/// The content of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WriteLog {
    /// The entries, oldest first.
    pub entries: Vec<LogEntry>,
    /// Whether older entries are missing: the log was full, or it began after the mark.
    pub was_cut: bool,
}

/// A command that completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LogEntry {
    /// Its number, in the order of completion.
    pub sequence: u64,
    /// What it did.
    pub kind: LogKind,
    /// Whether it was durable when it completed: written with FUA, or by the test.
    pub fua: bool,
    /// Whether a power cut has lost it. Of a write that it tore, there is an entry for the sectors that it kept, and
    /// one for those that it lost.
    pub lost: bool,
}

/// What a command of the log did; sectors of 512 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogKind {
    /// It wrote data.
    Write {
        /// The first sector.
        first: u64,
        /// How many.
        count: u64,
    },
    /// It wrote zeroes.
    Zeroes {
        /// The first sector.
        first: u64,
        /// How many.
        count: u64,
    },
    /// It discarded sectors.
    Discard {
        /// The first sector.
        first: u64,
        /// How many.
        count: u64,
    },
    /// It made all before it durable.
    Flush,
    /// The power was cut; all before it is durable or lost.
    PowerCut,
}

impl Disk {
    /// Begins or ends the log. It costs no time: what it keeps is the space of blocks that were overwritten, 256 MiB
    /// at most. Beyond that the oldest entries are dropped. With an image that is written in place, a write of blocks
    /// that the log does not have yet copies them first.
    ///
    /// # Errors
    /// The host cannot write the files.
    pub fn record_log(&self, on: bool) -> Result<(), DiskError> {
        let mut state = self.0.state.write();
        if !on {
            state.log = None;
            state.forget_records();
            return Ok(());
        }
        if state.log.is_none() {
            state.keep_all_before(0).map_err(DiskError::io("copy"))?;
            state.log = Some(LogState {
                start: state.last,
                limit: LOG_LIMIT,
                dropped: 0,
                saved_at: None,
            });
        }
        Ok(())
    }

    /// Sets how many bytes the log may hold; blocks of 4 KiB count.
    pub fn set_log_limit(&self, bytes: u64) {
        let mut state = self.0.state.write();
        if let Some(log) = &mut state.log {
            log.limit = bytes;
        }
        state.forget_records();
    }

    /// The end of the log as it is now; begins the log if it is not recorded.
    ///
    /// # Errors
    /// The host cannot write the files.
    pub fn mark_log(&self) -> Result<LogMark, DiskError> {
        self.record_log(true)?;
        Ok(LogMark(self.0.state.read().last))
    }

    /// Numbers the commands of this disk after those of `previous`, which it replaces: a mark that was taken of that
    /// one is not a place in this log.
    pub fn number_after(&self, previous: &Self) {
        let next = previous.0.state.read().last + 1;
        let mut state = self.0.state.write();
        if next > state.last {
            state.last = next;
            state.log = state.log.map(|log| LogState { start: next, ..log });
        }
    }

    /// The log since its start.
    ///
    /// # Errors
    /// It is not recorded.
    pub fn writes(&self) -> Result<WriteLog, DiskError> {
        self.log_since(None)
    }

    /// The log since a mark.
    ///
    /// # Errors
    /// It is not recorded, or has not reached the mark.
    pub fn writes_since(&self, mark: LogMark) -> Result<WriteLog, DiskError> {
        self.log_since(Some(mark))
    }

    fn log_since(&self, mark: Option<LogMark>) -> Result<WriteLog, DiskError> {
        let state = self.0.state.read();
        let log = state.log.ok_or(DiskError::NoLog)?;
        let mark = mark.unwrap_or(LogMark(log.start));
        state.check_mark(mark)?;
        let since = mark.0.max(log.start);
        let records = state.records.iter();
        let mut entries: Vec<_> = records
            .flat_map(|record| {
                let lost = record.lost.iter().map(LogEntry::of_lost);
                lost.chain([LogEntry::of(record)])
            })
            .filter(|entry| entry.sequence > since)
            .collect();
        // A power cut has what it lost. A torn write keeps its first sectors, which come first.
        entries.sort_by_key(|entry| entry.sequence);
        Ok(WriteLog {
            was_cut: log.lacks_after(mark.0),
            entries,
        })
    }
}

impl State {
    /// A mark that the log has not reached is one of another disk, or from before a restore.
    pub(crate) fn check_mark(&self, mark: LogMark) -> Result<(), DiskError> {
        if mark.0 <= self.last {
            return Ok(());
        }
        Err(DiskError::MarkAhead {
            mark: mark.0,
            last: self.last,
        })
    }

    /// Keeps what an image that is written in place has below the writes from this record on.
    pub(crate) fn keep_all_before(&mut self, from: usize) -> io::Result<()> {
        if self.layers.base.in_place().is_none() {
            return Ok(());
        }
        for at in from..self.records.len() {
            let record = &self.records[at];
            let (first, old) = (record.span.first_block(), record.old.clone());
            self.records[at].old = self.keep_before(first, &old)?;
        }
        Ok(())
    }
}

impl LogEntry {
    fn of(record: &Record) -> Self {
        Self {
            sequence: record.sequence,
            kind: LogKind::of(record.kind, record.span),
            fua: record.is_durable && record.span.count > 0,
            lost: false,
        }
    }

    fn of_lost(lost: &LostWrite) -> Self {
        Self {
            sequence: lost.sequence,
            kind: LogKind::of(lost.kind, lost.span),
            fua: false,
            lost: true,
        }
    }
}

impl LogKind {
    fn of(kind: RecordKind, Span { first, count }: Span) -> Self {
        match kind {
            RecordKind::Write => Self::Write { first, count },
            RecordKind::Zeroes => Self::Zeroes { first, count },
            RecordKind::Discard => Self::Discard { first, count },
            RecordKind::Flush => Self::Flush,
            RecordKind::PowerCut => Self::PowerCut,
        }
    }
}
