//! What a file has told so far: how its tests ended, and which one has not.
//!
//! The events of a file pass through its ledger. Once the file is completed the ledger is closed and
//! lets nothing more through, so that a file which was given up cannot speak up later.

use provium_events::{Details, Event, Value};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The ledger of a file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    counts: Counts,
    open: Option<(String, Value)>,
    closed: bool,
}

/// How many tests ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
    pub(crate) flaky: u64,
}

impl Ledger {
    /// Takes note of an event; whether it may pass.
    pub(crate) fn take(&self, event: &Event) -> bool {
        let mut entries = self.lock();
        if entries.closed {
            return false;
        }
        match event {
            Event::TestStarted { name, meta, .. } => {
                entries.open = Some((name.clone(), meta.clone()));
            }
            Event::TestPassed { details, .. } => {
                entries.open = None;
                entries.counts.passed += 1;
                entries.counts.flaky += u64::from(details.attempts > 1);
            }
            Event::TestFailed { .. } => {
                entries.open = None;
                entries.counts.failed += 1;
            }
            Event::TestSkipped { .. } => {
                entries.open = None;
                entries.counts.skipped += 1;
            }
            _ => {}
        }
        true
    }

    /// Closes it; gives the counts and, where a test was left open, the event that ends it.
    pub(crate) fn close(&self, path: &str, reason: &str) -> (Counts, Option<Event>) {
        let mut entries = self.lock();
        entries.closed = true;
        let ending = entries.open.take().map(|(name, meta)| Event::TestFailed {
            path: path.to_owned(),
            name,
            duration_ns: 0,
            meta,
            reason: reason.to_owned(),
            console_excerpt: None,
            details: Details::default(),
        });
        entries.counts.failed += u64::from(ending.is_some());
        (entries.counts, ending)
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
