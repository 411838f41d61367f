//! Whether a file can still return something: its open calls that do not wait for the pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the calls of a file that may still complete by themselves. Clones share their state.
#[derive(Clone, Debug, Default)]
pub struct Activity(Arc<AtomicUsize>);

/// A call of a file; it is active until this is dropped.
#[derive(Debug)]
pub struct ActiveCall(Activity);

impl Activity {
    /// A call begins.
    pub fn begin(&self) -> ActiveCall {
        self.0.fetch_add(1, Ordering::Relaxed);
        ActiveCall(self.clone())
    }

    /// Whether every open call of the file waits for the pool.
    pub fn is_idle(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// An open call begins to wait for the pool; `None` if no call is open, as in work that does not
    /// belong to one.
    pub(crate) fn wait(&self) -> Option<WaitingCall> {
        let less = |active: usize| active.checked_sub(1);
        let ordering = Ordering::Relaxed;
        let waits = self.0.fetch_update(ordering, ordering, less);
        waits.ok().map(|_| WaitingCall(self.clone()))
    }
}

impl Drop for ActiveCall {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A call that waits for the pool, and so cannot complete by itself, until this is dropped.
pub(crate) struct WaitingCall(Activity);

impl Drop for WaitingCall {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}
