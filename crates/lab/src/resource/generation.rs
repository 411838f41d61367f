//! Distinguishes the machines that a VM runs on in its life.

use std::sync::atomic::{AtomicU64, Ordering};

/// The number of a machine. A VM has a new machine after each boot or restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Generation(u64);

impl Generation {
    /// A number that no machine of this process has had.
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}
