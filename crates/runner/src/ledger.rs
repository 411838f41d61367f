//! How the tests of a running file have ended so far, and which have not.
//!
//! The events of a file pass through its ledger. Once the file is completed the ledger is closed and
//! drops all further events, so that a file which was abandoned reports nothing later.

use provium_events::{Details, Event, Value};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The ledger of a file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    counts: Counts,
    /// Tests that have begun and not ended, in that order; several, where they run side by side.
    open: Vec<(String, Value)>,
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
                entries.open.push((name.clone(), meta.clone()));
            }
            Event::TestPassed { name, details, .. } => {
                entries.end(name);
                entries.counts.passed += 1;
                entries.counts.flaky += u64::from(details.attempts > 1);
            }
            Event::TestFailed { name, .. } => {
                entries.end(name);
                entries.counts.failed += 1;
            }
            Event::TestSkipped { name, .. } => {
                entries.end(name);
                entries.counts.skipped += 1;
            }
            _ => {}
        }
        true
    }

    /// Closes it; gives the counts and, where tests were left open, the events that end them.
    pub(crate) fn close(&self, path: &str, reason: &str) -> (Counts, Vec<Event>) {
        let mut entries = self.lock();
        entries.closed = true;
        let open = std::mem::take(&mut entries.open).into_iter();
        let endings = open.map(|(name, meta)| Event::TestFailed {
            path: path.to_owned(),
            name,
            duration_ns: 0,
            meta,
            reason: reason.to_owned(),
            console_excerpt: None,
            consoles: Vec::new(),
            details: Details::default(),
        });
        let endings: Vec<Event> = endings.collect();
        entries.counts.failed += endings.len() as u64;
        (entries.counts, endings)
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn end(&mut self, name: &str) {
        self.open.retain(|(open, _)| open != name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(name: &str) -> Event {
        Event::TestStarted {
            path: "a".to_owned(),
            name: name.to_owned(),
            meta: Value::Nil,
        }
    }

    #[test]
    fn of_tests_side_by_side_those_that_were_left_open_fail() {
        let ledger = Ledger::default();
        for name in ["one", "two", "three"] {
            assert!(ledger.take(&started(name)));
        }
        ledger.take(&Event::TestPassed {
            path: "a".to_owned(),
            name: "two".to_owned(),
            duration_ns: 1,
            meta: Value::Nil,
            details: Details::default(),
        });
        let (counts, endings) = ledger.close("a", "it crashed");
        assert_eq!((counts.passed, counts.failed), (1, 2));
        let names = endings.iter().map(|event| match event {
            Event::TestFailed { name, reason, .. } if reason == "it crashed" => name.as_str(),
            other => panic!("{other:?}"),
        });
        assert_eq!(names.collect::<Vec<_>>(), ["one", "three"]);
        assert!(!ledger.take(&started("late")));
    }
}
