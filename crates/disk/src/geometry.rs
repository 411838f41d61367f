//! Sectors, blocks, and the part of a block that a range covers.

use std::ops::Range;

/// Bytes of a sector: what a guest addresses, and what a power cut does not tear.
pub const SECTOR: u64 = 512;

/// Bytes of a block of an overlay.
pub(crate) const BLOCK: u64 = 4096;

/// Sectors of a block.
pub(crate) const BLOCK_SECTORS: u64 = BLOCK / SECTOR;

/// A range of sectors; not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// The first sector.
    pub(crate) first: u64,
    /// How many.
    pub(crate) count: u64,
}

impl Span {
    /// The span of a range of bytes that begins and ends between sectors.
    pub(crate) fn of_bytes(offset: u64, length: u64) -> Self {
        Self {
            first: offset / SECTOR,
            count: length / SECTOR,
        }
    }

    /// The sector after the last one.
    pub(crate) fn end(self) -> u64 {
        self.first + self.count
    }

    /// Bytes of it.
    pub(crate) fn bytes(self) -> u64 {
        self.count * SECTOR
    }

    /// The first block that it touches.
    pub(crate) fn first_block(self) -> u64 {
        self.first / BLOCK_SECTORS
    }

    /// How many blocks it touches.
    pub(crate) fn blocks(self) -> u64 {
        self.end().div_ceil(BLOCK_SECTORS) - self.first_block()
    }

    /// The bytes of a block that it covers.
    pub(crate) fn within(self, block: u64) -> Range<usize> {
        let start = self.first.max(block * BLOCK_SECTORS) - block * BLOCK_SECTORS;
        let end = self.end().min((block + 1) * BLOCK_SECTORS) - block * BLOCK_SECTORS;
        to_usize(start * SECTOR)..to_usize(end * SECTOR)
    }

    /// Whether it covers a block, or the part of it that a disk with `sectors` sectors has.
    pub(crate) fn covers(self, block: u64, sectors: u64) -> bool {
        self.first <= block * BLOCK_SECTORS
            && self.end() >= sectors.min((block + 1) * BLOCK_SECTORS)
    }

    /// The blocks that it covers in part: at most the first and the last one.
    pub(crate) fn edges(self, sectors: u64) -> impl Iterator<Item = u64> {
        let first = self.first_block();
        let last = first + self.blocks() - 1;
        let head = (!self.covers(first, sectors)).then_some(first);
        let tail = (last != first && !self.covers(last, sectors)).then_some(last);
        head.into_iter().chain(tail)
    }
}

/// A length in memory.
pub(crate) fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
