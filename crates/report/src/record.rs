//! What is known of each file, gathered from events until the file is completed.

use provium_events::{
    ConsoleExcerpt, Details, Event, FileError, FileStatus, Notice, Resources, TestStatus, Value,
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
    /// It was started at all.
    pub(crate) dispatched: bool,
    /// In the order in which they began, once the file is completed.
    pub(crate) tests: Vec<TestRecord>,
    /// The names of tests that have begun.
    began: Vec<String>,
    pub(crate) boots: Vec<BootRecord>,
    pub(crate) waits: Vec<WaitRecord>,
    pub(crate) notices: Vec<Notice>,
}

/// A test that has ended.
#[derive(Debug)]
pub(crate) struct TestRecord {
    pub(crate) name: String,
    pub(crate) status: TestStatus,
    pub(crate) message: Option<String>,
    pub(crate) duration_ns: u64,
    pub(crate) meta: Value,
    pub(crate) details: Details,
    pub(crate) consoles: Vec<ConsoleExcerpt>,
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

/// How many tests ended how.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

/// A file that is completed.
#[derive(Debug)]
pub(crate) struct Completed {
    pub(crate) file: FileRecord,
    pub(crate) status: FileStatus,
    pub(crate) duration_ns: u64,
    pub(crate) error: Option<FileError>,
}

impl Records {
    /// Takes note of an event; gives the file that it completes.
    pub(crate) fn take(&mut self, event: &Event) -> Option<Completed> {
        match event {
            Event::FileDispatched { path, .. } => self.file(path).dispatched = true,
            Event::TestStarted { path, name, .. } => self.file(path).began.push(name.clone()),
            Event::TestPassed {
                path,
                name,
                duration_ns,
                meta,
                details,
            } => {
                self.file(path).tests.push(TestRecord {
                    name: name.clone(),
                    status: TestStatus::Passed,
                    message: None,
                    duration_ns: *duration_ns,
                    meta: meta.clone(),
                    details: details.clone(),
                    consoles: Vec::new(),
                });
            }
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
                self.file(path).tests.push(TestRecord {
                    name: name.clone(),
                    status: TestStatus::Failed,
                    message: Some(reason.clone()),
                    duration_ns: *duration_ns,
                    meta: meta.clone(),
                    details: details.clone(),
                    consoles: consoles.clone(),
                });
            }
            Event::TestSkipped {
                path,
                name,
                reason,
                meta,
                duration_ns,
                details,
            } => {
                self.file(path).tests.push(TestRecord {
                    name: name.clone(),
                    status: TestStatus::Skipped,
                    message: Some(reason.clone()),
                    duration_ns: *duration_ns,
                    meta: meta.clone(),
                    details: details.clone(),
                    consoles: Vec::new(),
                });
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
                    boot: match boot {
                        provium_events::BootKind::Cold => "cold",
                        provium_events::BootKind::Template => "template",
                        provium_events::BootKind::Snapshot => "snapshot",
                    },
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
            Event::FileCompleted {
                path,
                status,
                duration_ns,
                error,
            } => {
                self.file(path);
                let mut file = self.open.remove(path)?;
                file.put_in_order();
                return Some(Completed {
                    file,
                    status: *status,
                    duration_ns: *duration_ns,
                    error: error.clone(),
                });
            }
            _ => {}
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
}

impl FileRecord {
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

impl Completed {
    /// How many tests ended how. A file that failed outside of any test counts as one failure.
    pub(crate) fn counts(&self) -> Counts {
        let count = |status| {
            self.file
                .tests
                .iter()
                .filter(|test| test.status == status)
                .count()
        };
        let failed = count(TestStatus::Failed);
        let of_the_file = usize::from(failed == 0 && self.status != FileStatus::Passed);
        Counts {
            passed: count(TestStatus::Passed),
            failed: failed + of_the_file,
            skipped: count(TestStatus::Skipped),
        }
    }
}

impl TestRecord {
    /// Whether it passed only after it had failed.
    pub(crate) fn is_flaky(&self) -> bool {
        self.status == TestStatus::Passed && self.details.attempts > 1
    }
}
