//! How the tests of a running file have ended so far, and which have not.
//!
//! The events of a file pass through its ledger. Once the file is completed the ledger is closed and
//! drops all further events, so that a file which was abandoned reports nothing later.

use crate::plan::nanoseconds;
use provium_events::{Details, Event, Value};
use provium_pool::CancelToken;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The ledger of a file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    counts: Counts,
    /// Tests that have begun and not ended, in that order; several, where they run side by side.
    open: Vec<OpenTest>,
    /// Names of all tests that were reported in any way.
    reported: BTreeSet<String>,
    /// Cancelled by the first failure.
    on_failure: Option<CancelToken>,
    closed: bool,
}

#[derive(Debug)]
struct OpenTest {
    name: String,
    meta: Value,
    started: Instant,
}

/// How many tests ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
    pub(crate) flaky: u64,
    pub(crate) interrupted: u64,
    pub(crate) not_run: u64,
}

/// Why a file ended with tests that had not.
#[derive(Debug, Clone, Copy)]
pub(crate) enum FileInterruption<'a> {
    /// The user ended the run.
    Interrupted,
    /// The file failed, for this reason.
    Failed(&'a str),
}

impl Ledger {
    /// A ledger that cancels `on_failure` when a test fails.
    pub(crate) fn new(on_failure: Option<CancelToken>) -> Self {
        Self(Arc::new(Mutex::new(Entries {
            on_failure,
            ..Entries::default()
        })))
    }

    /// Takes note of an event; whether it may pass.
    pub(crate) fn take(&self, event: &Event) -> bool {
        let mut entries = self.lock();
        if entries.closed {
            return false;
        }
        match event {
            Event::TestStarted { name, meta, .. } => {
                entries.reported.insert(name.clone());
                entries.open.push(OpenTest {
                    name: name.clone(),
                    meta: meta.clone(),
                    started: Instant::now(),
                });
            }
            Event::TestPassed { name, details, .. } => {
                entries.end(name);
                entries.counts.passed += 1;
                entries.counts.flaky += u64::from(details.attempts > 1);
            }
            Event::TestFailed { name, .. } => {
                entries.end(name);
                entries.counts.failed += 1;
                if let Some(on_failure) = &entries.on_failure {
                    on_failure.cancel();
                }
            }
            Event::TestSkipped { name, .. } => {
                entries.end(name);
                entries.counts.skipped += 1;
            }
            Event::TestInterrupted { name, .. } => {
                entries.end(name);
                entries.counts.interrupted += 1;
            }
            // Both the file and the dispatcher may report it.
            Event::TestNotRun { name, .. } => {
                if !entries.reported.insert(name.clone()) {
                    return false;
                }
                entries.counts.not_run += 1;
            }
            _ => {}
        }
        true
    }

    /// Closes it; gives the counts, and the events that end the tests which were left open and report
    /// those of `declared` that did not start, for the `reason`.
    pub(crate) fn close(
        &self,
        path: &str,
        unfinished: FileInterruption<'_>,
        declared: &[String],
        reason: &str,
    ) -> (Counts, Vec<Event>) {
        let mut entries = self.lock();
        entries.closed = true;
        let mut endings = Vec::new();
        for test in std::mem::take(&mut entries.open) {
            let (ending, count) = match unfinished {
                FileInterruption::Interrupted => {
                    (interrupted(path, test), &mut entries.counts.interrupted)
                }
                FileInterruption::Failed(why) => {
                    (failed(path, test, why), &mut entries.counts.failed)
                }
            };
            *count += 1;
            endings.push(ending);
        }
        for name in declared {
            if entries.reported.insert(name.clone()) {
                entries.counts.not_run += 1;
                endings.push(Event::TestNotRun {
                    path: path.to_owned(),
                    name: name.clone(),
                    reason: reason.to_owned(),
                });
            }
        }
        (entries.counts, endings)
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn end(&mut self, name: &str) {
        self.reported.insert(name.to_owned());
        self.open.retain(|open| open.name != name);
    }
}

fn failed(path: &str, test: OpenTest, reason: &str) -> Event {
    Event::TestFailed {
        path: path.to_owned(),
        name: test.name,
        duration_ns: nanoseconds(test.started.elapsed()),
        meta: test.meta,
        reason: reason.to_owned(),
        console_excerpt: None,
        consoles: Vec::new(),
        details: Details::default(),
    }
}

fn interrupted(path: &str, test: OpenTest) -> Event {
    Event::TestInterrupted {
        path: path.to_owned(),
        name: test.name,
        duration_ns: nanoseconds(test.started.elapsed()),
        meta: test.meta,
        details: Details::default(),
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
        let declared = ["one", "two", "three", "four"].map(str::to_owned);
        let (counts, mut endings) = ledger.close(
            "a",
            FileInterruption::Failed("it crashed"),
            &declared,
            "the file crashed",
        );
        assert_eq!((counts.passed, counts.failed, counts.not_run), (1, 2, 1));
        let last = endings.pop();
        assert!(matches!(last, Some(Event::TestNotRun { name, .. }) if name == "four"));
        let names = endings.iter().map(|event| match event {
            Event::TestFailed { name, reason, .. } if reason == "it crashed" => name.as_str(),
            other => panic!("{other:?}"),
        });
        assert_eq!(names.collect::<Vec<_>>(), ["one", "three"]);
        assert!(!ledger.take(&started("late")));
    }

    #[test]
    fn what_the_user_interrupts_has_not_failed() {
        let ledger = Ledger::default();
        ledger.take(&started("one"));
        let not_run = |name: &str| Event::TestNotRun {
            path: "a".to_owned(),
            name: name.to_owned(),
            reason: "interrupted".to_owned(),
        };
        assert!(ledger.take(&not_run("two")));
        assert!(!ledger.take(&not_run("two")), "it is reported once");
        let declared = ["one", "two"].map(str::to_owned);
        let (counts, endings) =
            ledger.close("a", FileInterruption::Interrupted, &declared, "interrupted");
        let expected = Counts {
            interrupted: 1,
            not_run: 1,
            ..Counts::default()
        };
        assert_eq!(counts, expected);
        assert!(
            matches!(&endings[..], [Event::TestInterrupted { .. }]),
            "{endings:?}"
        );
    }

    #[test]
    fn a_failed_test_is_noticed_at_once() {
        let on_failure = CancelToken::new();
        let ledger = Ledger::new(Some(on_failure.clone()));
        ledger.take(&started("one"));
        assert!(!on_failure.is_cancelled());
        let test = OpenTest {
            name: "one".to_owned(),
            meta: Value::Nil,
            started: Instant::now(),
        };
        ledger.take(&failed("a", test, "no"));
        assert!(on_failure.is_cancelled());
    }
}
