//! Tells the outside how tests begin and end.

use super::test_run::Step;
use super::{Expectation, Meta, TestDeclaration, TestStatus, Verdict};
use crate::engine::failure::Failure;
use provium_events as events;
use provium_events::{Event, Sink, Value};
use std::time::Duration;

/// Emits the events of one file's tests.
pub(crate) struct Reporter {
    sink: Sink,
    path: String,
    #[cfg(test)]
    pub(crate) seen: std::cell::RefCell<Vec<(String, Verdict)>>,
}

impl Reporter {
    /// Events of the file that people call `path`.
    pub(crate) fn new(sink: &Sink, path: &str) -> Self {
        Self {
            sink: sink.clone(),
            path: path.to_owned(),
            #[cfg(test)]
            seen: std::cell::RefCell::default(),
        }
    }

    /// The test begins.
    pub(crate) fn started(&self, test: &TestDeclaration) {
        let (path, name, meta) = self.head(test);
        self.sink.emit(Event::TestStarted { path, name, meta });
    }

    /// An attempt failed, and there will be another.
    pub(crate) fn retried(&self, test: &TestDeclaration, verdict: &Verdict) {
        let (path, name, _) = self.head(test);
        let (attempt, reason) = (verdict.attempts, verdict.message.clone());
        self.sink.emit(Event::TestRetried {
            path,
            name,
            attempt,
            reason,
            duration_ns: nanoseconds(verdict.duration),
            location: verdict.failure.as_ref().and_then(location),
        });
    }

    /// The test is over.
    pub(crate) fn ended(&self, test: &TestDeclaration, verdict: &Verdict) {
        #[cfg(test)]
        self.seen
            .borrow_mut()
            .push((test.name.clone(), verdict.clone()));
        let (path, name, meta) = self.head(test);
        for step in verdict.steps.iter().map(step_event) {
            let (path, name) = (path.clone(), name.clone());
            self.sink.emit(Event::TestStep { path, name, step });
        }
        for attachment in &verdict.attachments {
            let (path, name) = (path.clone(), name.clone());
            let attachment = events::Attachment {
                name: attachment.name.clone(),
                content: attachment.content.clone(),
            };
            self.sink.emit(Event::TestAttachment {
                path,
                name,
                attachment,
            });
        }
        let duration_ns = nanoseconds(verdict.duration);
        let details = details(verdict);
        let reason = verdict.message.clone();
        self.sink.emit(match verdict.status {
            TestStatus::Passed => Event::TestPassed {
                path,
                name,
                duration_ns,
                meta,
                details,
            },
            TestStatus::Skipped => Event::TestSkipped {
                path,
                name,
                reason,
                meta,
                duration_ns,
                details,
            },
            TestStatus::Interrupted => Event::TestInterrupted {
                path,
                name,
                duration_ns,
                meta,
                details,
            },
            TestStatus::NotRun => Event::TestNotRun { path, name, reason },
            TestStatus::Failed => {
                let consoles = verdict.consoles.clone();
                Event::TestFailed {
                    path,
                    name,
                    duration_ns,
                    meta,
                    reason,
                    console_excerpt: events::ConsoleExcerpt::join(&consoles),
                    consoles,
                    details,
                }
            }
        });
    }

    fn head(&self, test: &TestDeclaration) -> (String, String, Value) {
        (self.path.clone(), test.name.clone(), meta_event(&test.meta))
    }
}

fn details(verdict: &Verdict) -> events::Details {
    let mut log = verdict.log.clone();
    let mut expected_failure = None;
    if let (Some(Expectation::Fail(reason)), TestStatus::Passed) =
        (&verdict.expected, verdict.status)
    {
        log.push(format!(
            "failed as expected ({reason}): {}",
            verdict.message
        ));
        expected_failure = Some(reason.clone());
    }
    events::Details {
        location: verdict.failure.as_ref().and_then(location),
        traceback: verdict
            .failure
            .as_ref()
            .map(Failure::traceback)
            .unwrap_or_default(),
        log,
        notes: verdict.notes.clone(),
        steps: verdict.steps.iter().map(step_event).collect(),
        attempts: verdict.attempts,
        expected_failure,
        files: verdict.files.clone(),
    }
}

fn location(failure: &Failure) -> Option<events::Location> {
    let site = failure.site()?;
    Some(events::Location {
        file: site.file.clone(),
        line: site.line,
        column: None,
    })
}

fn step_event(step: &Step) -> events::Step {
    let duration_ns = step.duration.map(nanoseconds).unwrap_or_default();
    events::Step {
        name: step.name.clone(),
        duration_ns,
        passed: step.ok,
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

pub(crate) fn meta_event(meta: &Meta) -> Value {
    let entry = |(key, data): &(String, Value)| (Value::Text(key.clone()), data.clone());
    Value::Map(meta.all.iter().map(entry).collect())
}
