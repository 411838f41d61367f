//! What is known of each file, gathered from events until the file is completed.

use crate::counts::Counts;
use provium_events::{
    Attachment, ConsoleExcerpt, Details, Event, FileError, FileStatus, Location, Notice, Resources,
    TestStatus, Value,
};
use std::collections::{BTreeMap, HashMap};

/// Files that are not completed yet.
#[derive(Debug, Default)]
pub(crate) struct Records {
    open: BTreeMap<String, FileRecord>,
}

/// A file and all that happened in it.
#[derive(Debug, Default)]
pub(crate) struct FileRecord {
    pub(crate) path: String,
    /// In the order in which they began, once the file is completed.
    pub(crate) tests: Vec<TestRecord>,
    /// The names of tests that have begun.
    began: Vec<String>,
    /// What is known of tests that have not ended.
    pending: BTreeMap<String, PendingTest>,
    pub(crate) boots: Vec<BootRecord>,
    pub(crate) waits: Vec<WaitRecord>,
    pub(crate) notices: Vec<Notice>,
    /// It has used the run's seed.
    pub(crate) used_seed: bool,
}

/// What precedes the end of a test.
#[derive(Debug, Default)]
struct PendingTest {
    failed_attempts: Vec<FailedAttempt>,
    attachments: Vec<Attachment>,
}

/// A test that has ended, or was not run.
#[derive(Debug)]
pub(crate) struct TestRecord {
    pub(crate) name: String,
    pub(crate) status: TestStatus,
    /// Why it failed, was skipped, or was not run.
    pub(crate) message: Option<String>,
    pub(crate) duration_ns: u64,
    pub(crate) meta: Value,
    pub(crate) details: Details,
    pub(crate) consoles: Vec<ConsoleExcerpt>,
    /// The attempts before the last one.
    pub(crate) failed_attempts: Vec<FailedAttempt>,
    pub(crate) attachments: Vec<Attachment>,
}

/// An attempt that failed and was followed by another.
#[derive(Debug, Clone)]
pub(crate) struct FailedAttempt {
    pub(crate) number: u32,
    pub(crate) reason: String,
    pub(crate) duration_ns: u64,
    pub(crate) location: Option<Location>,
}

/// A VM that booted.
#[derive(Debug)]
pub(crate) struct BootRecord {
    pub(crate) vm_name: String,
    pub(crate) profile: String,
    pub(crate) memory_bytes: u64,
    pub(crate) boot: &'static str,
    pub(crate) boot_ns: u64,
}

/// A wait for the pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WaitRecord {
    pub(crate) amount: Resources,
    pub(crate) waited_ns: u64,
}

/// A file that is completed.
#[derive(Debug)]
pub(crate) struct CompletedFile {
    pub(crate) file: FileRecord,
    pub(crate) status: FileStatus,
    pub(crate) duration_ns: u64,
    pub(crate) error: Option<FileError>,
}

/// What an event has ended.
#[derive(Debug)]
pub(crate) enum CompletedItem<'a> {
    /// A test of the file of that path.
    Test(&'a str, &'a TestRecord),
    /// A file.
    File(Box<CompletedFile>),
}

impl Records {
    /// Takes note of an event; gives what it ends.
    pub(crate) fn take(&mut self, event: &Event) -> Option<CompletedItem<'_>> {
        match event {
            Event::TestStarted { path, name, .. } => self.file(path).began.push(name.clone()),
            Event::TestRetried {
                path,
                name,
                attempt,
                reason,
                duration_ns,
                location,
            } => {
                let failed = FailedAttempt {
                    number: *attempt,
                    reason: reason.clone(),
                    duration_ns: *duration_ns,
                    location: location.clone(),
                };
                self.pending(path, name).failed_attempts.push(failed);
            }
            Event::TestAttachment {
                path,
                name,
                attachment,
            } => {
                let pending = self.pending(path, name);
                pending.attachments.push(attachment.clone());
            }
            Event::VmSpawned {
                file,
                vm_name,
                profile,
                memory_bytes,
                boot,
                boot_ns,
                ..
            } => {
                self.file(file).boots.push(BootRecord {
                    vm_name: vm_name.clone(),
                    profile: profile.clone(),
                    memory_bytes: *memory_bytes,
                    boot: boot.word(),
                    boot_ns: *boot_ns,
                });
            }
            Event::FileUnblocked {
                path,
                amount,
                waited_ns,
            } => self.file(path).waits.push(WaitRecord {
                amount: *amount,
                waited_ns: *waited_ns,
            }),
            Event::Notice(notice) => {
                if let Some(path) = &notice.file {
                    self.file(path).notices.push(notice.clone());
                }
            }
            Event::SeedUsed { path } => self.file(path).used_seed = true,
            Event::FileCompleted {
                path,
                status,
                duration_ns,
                error,
            } => {
                self.file(path);
                let mut file = self.open.remove(path)?;
                file.put_in_order();
                return Some(CompletedItem::File(Box::new(CompletedFile {
                    file,
                    status: *status,
                    duration_ns: *duration_ns,
                    error: error.clone(),
                })));
            }
            other => {
                let (path, test) = TestRecord::of(other)?;
                let file = self.file(path);
                file.end(test);
                let test = file.tests.last()?;
                return Some(CompletedItem::Test(&file.path, test));
            }
        }
        None
    }

    fn file(&mut self, path: &str) -> &mut FileRecord {
        let new = || FileRecord {
            path: path.to_owned(),
            ..FileRecord::default()
        };
        self.open.entry(path.to_owned()).or_insert_with(new)
    }

    fn pending(&mut self, path: &str, name: &str) -> &mut PendingTest {
        let file = self.file(path);
        file.pending.entry(name.to_owned()).or_default()
    }
}

impl FileRecord {
    fn end(&mut self, mut test: TestRecord) {
        let pending = self.pending.remove(&test.name).unwrap_or_default();
        test.failed_attempts = pending.failed_attempts;
        test.attachments = pending.attachments;
        self.tests.push(test);
    }

    /// Tests that ran side by side have ended in any order.
    fn put_in_order(&mut self) {
        let mut places = HashMap::new();
        for (place, name) in self.began.iter().enumerate() {
            places.entry(name.as_str()).or_insert(place);
        }
        let mut tests = std::mem::take(&mut self.tests);
        tests.sort_by_cached_key(|test: &TestRecord| {
            let place = places.get(test.name.as_str());
            place.copied().unwrap_or(usize::MAX)
        });
        self.tests = tests;
    }
}

impl CompletedFile {
    /// How many tests ended how. A file that failed outside of any test counts as one failure.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for test in &self.file.tests {
            counts.add(test.status);
            counts.flaky += u64::from(test.is_flaky());
        }
        let failed = matches!(
            self.status,
            FileStatus::Failed | FileStatus::TimedOut | FileStatus::Crashed
        );
        if failed && counts.failed == 0 {
            counts.failed = 1;
        }
        counts
    }
}

impl TestRecord {
    /// The record of the test that an event ends, and its file.
    fn of(event: &Event) -> Option<(&str, Self)> {
        let new = |name: &str, status, duration_ns, meta: &Value, details: &Details| Self {
            name: name.to_owned(),
            status,
            message: None,
            duration_ns,
            meta: meta.clone(),
            details: details.clone(),
            consoles: Vec::new(),
            failed_attempts: Vec::new(),
            attachments: Vec::new(),
        };
        let (path, test) = match event {
            Event::TestPassed {
                path,
                name,
                duration_ns,
                meta,
                details,
            } => (
                path,
                new(name, TestStatus::Passed, *duration_ns, meta, details),
            ),
            Event::TestFailed {
                path,
                name,
                duration_ns,
                meta,
                reason,
                consoles,
                details,
                ..
            } => {
                let mut test = new(name, TestStatus::Failed, *duration_ns, meta, details);
                test.message = Some(reason.clone());
                test.consoles = consoles.clone();
                (path, test)
            }
            Event::TestSkipped {
                path,
                name,
                reason,
                meta,
                duration_ns,
                details,
            } => {
                let mut test = new(name, TestStatus::Skipped, *duration_ns, meta, details);
                test.message = Some(reason.clone());
                (path, test)
            }
            Event::TestInterrupted {
                path,
                name,
                duration_ns,
                meta,
                details,
            } => (
                path,
                new(name, TestStatus::Interrupted, *duration_ns, meta, details),
            ),
            Event::TestNotRun { path, name, reason } => {
                let details = Details::default();
                let mut test = new(name, TestStatus::NotRun, 0, &Value::Nil, &details);
                test.message = Some(reason.clone());
                (path, test)
            }
            _ => return None,
        };
        Some((path, test))
    }

    /// Whether it passed only after it had failed.
    pub(crate) fn is_flaky(&self) -> bool {
        self.status == TestStatus::Passed && self.details.attempts > 1
    }
}
