//! Counts of a guest's commands to a disk.

use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of a guest's commands since the disk was opened, and of its volatile writes. The test's own reads and writes
/// are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DiskStats {
    /// Reads that succeeded.
    pub reads: u64,
    /// Writes that succeeded, those of zeroes included.
    pub writes: u64,
    /// Flushes that succeeded, dropped ones included.
    pub flushes: u64,
    /// Discards that succeeded.
    pub discards: u64,
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Bytes that were written, zeroes included.
    pub written_bytes: u64,
    /// Writes and discards that a power cut would lose.
    pub unflushed_writes: u64,
    /// Bytes of them.
    pub unflushed_bytes: u64,
    /// Commands that failed, by a fault or because of the host.
    pub failed: u64,
}

/// The counts that are kept; those of what is volatile are the state's.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) reads: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) flushes: AtomicU64,
    pub(crate) discards: AtomicU64,
    pub(crate) read_bytes: AtomicU64,
    pub(crate) written_bytes: AtomicU64,
    pub(crate) failed: AtomicU64,
}

impl Counters {
    /// Their present values.
    pub(crate) fn stats(&self) -> DiskStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DiskStats {
            reads: get(&self.reads),
            writes: get(&self.writes),
            flushes: get(&self.flushes),
            discards: get(&self.discards),
            read_bytes: get(&self.read_bytes),
            written_bytes: get(&self.written_bytes),
            failed: get(&self.failed),
            unflushed_writes: 0,
            unflushed_bytes: 0,
        }
    }
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}
