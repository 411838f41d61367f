//! The changes of a command, and how to undo them.

use crate::geometry::{BLOCK, Span};
use crate::overlay::{Place, Runs};

/// The command of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordKind {
    Write,
    Zeroes,
    Discard,
    Flush,
    PowerCut,
}

/// A completed command that changed the disk. It refers to data, and has none: what was written is in slots that are
/// not changed while the record exists, and so is what was there before.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// Its number; commands are numbered in the order of their completion.
    pub(crate) sequence: u64,
    pub(crate) kind: RecordKind,
    /// The sectors that it wrote; empty for a flush.
    pub(crate) span: Span,
    /// Durable without a flush: written with FUA, or by the test.
    pub(crate) is_durable: bool,
    /// Where the blocks of the span were before.
    pub(crate) old: Runs,
    /// Where they are since. In blocks that the span covers in part, the rest is what was there before.
    pub(crate) new: Runs,
    /// Of a power cut: what it lost.
    pub(crate) lost: Box<[LostWrite]>,
    /// What it held when it was appended to the records, bytes; see [`Self::weigh`].
    pub(crate) held: u64,
}

/// A write, or a part of one, that a power cut has lost. It has no data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LostWrite {
    pub(crate) sequence: u64,
    pub(crate) kind: RecordKind,
    /// The sectors that were lost.
    pub(crate) span: Span,
}

impl Record {
    /// Something that made all before it durable.
    pub(crate) fn boundary(kind: RecordKind, sequence: u64) -> Self {
        let mut boundary = Self {
            sequence,
            kind,
            span: Span { first: 0, count: 0 },
            is_durable: true,
            old: Runs::default(),
            new: Runs::default(),
            lost: Box::default(),
            held: 0,
        };
        boundary.held = boundary.weigh();
        boundary
    }

    /// A power cut, which lost these writes.
    pub(crate) fn power_cut(sequence: u64, lost: Vec<LostWrite>) -> Self {
        Self {
            lost: lost.into(),
            ..Self::boundary(RecordKind::PowerCut, sequence)
        }
    }

    /// What it holds, bytes; slots count, and its own memory.
    pub(crate) fn weigh(&self) -> u64 {
        let slots: u64 = (self.new.iter())
            .filter(|run| matches!(run.address.place(), Place::Slot { .. }))
            .map(|run| run.blocks)
            .sum();
        let lost = size_of_val(&*self.lost) as u64;
        slots * BLOCK + 16 * (self.old.len() + self.new.len()) as u64 + lost + 128
    }
}
