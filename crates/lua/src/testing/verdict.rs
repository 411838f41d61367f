//! What a test has come to: while it runs, and in the end.

use super::parallel::TestLab;
use crate::api::globals::Children;
use crate::binding::text::without_middle;
use crate::engine::failed_commands::FailedCommands;
use crate::engine::failure::Failure;
use crate::engine::log::{Log, LogLines};
use crate::engine::task::Task;
use mlua::{Function, Value};
use provium_events::{ConsoleExcerpt, TestStatus};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Bytes that the attachments of a test may have in all, names included.
const MAX_ATTACHED: usize = 64 << 20;
/// Most attachments of a test.
const MAX_ATTACHMENTS: usize = 10_000;
/// Most steps of a test.
const MAX_STEPS: usize = 10_000;
/// Longest name of a step.
const MAX_NAME: usize = 4096;

/// A test while it runs. Each attempt has its own.
pub(crate) struct TestRun {
    /// The test's name.
    pub(crate) name: String,
    /// `t.meta`.
    pub(crate) meta: Value,
    /// `t:log`.
    pub(crate) log: Log,
    /// `t:step`.
    pub(crate) steps: RefCell<Vec<Step>>,
    /// `t:attach`.
    pub(crate) attachments: RefCell<Vec<Attachment>>,
    attached: Cell<usize>,
    /// How many attachments were not kept, and their bytes.
    unattached: Cell<(usize, usize)>,
    unkept_steps: Cell<usize>,
    /// `t:defer`.
    pub(crate) deferred: RefCell<Vec<Function>>,
    /// The first assertion that failed.
    pub(crate) sticky: RefCell<Option<Failure>>,
    /// Commands that failed.
    pub(crate) failed_commands: FailedCommands,
    /// `t:skip`.
    pub(crate) skip: RefCell<Option<String>>,
    /// Tasks started by it.
    pub(crate) tasks: RefCell<Vec<Rc<Task>>>,
    /// Commands of `io.popen` that it started.
    pub(crate) children: Children,
    /// Its own copy of the file's lab, while it runs.
    pub(crate) test_lab: RefCell<Option<TestLab>>,
    /// It is over; its `t` is of no use any more.
    pub(crate) ended: Cell<bool>,
}

/// A named part of a test.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) started: Instant,
    /// `None` while it runs.
    pub(crate) duration: Option<Duration>,
    pub(crate) ok: bool,
}

/// Bytes kept with the report.
#[derive(Debug, Clone)]
pub(crate) struct Attachment {
    pub(crate) name: String,
    pub(crate) content: Vec<u8>,
}

impl TestRun {
    /// A test that has not begun, with what was printed before it.
    pub(crate) fn new(
        name: String,
        meta: Value,
        log: LogLines,
        test_lab: Option<TestLab>,
    ) -> Rc<Self> {
        Rc::new(Self {
            name,
            meta,
            log: Rc::new(RefCell::new(log)),
            steps: RefCell::default(),
            attachments: RefCell::default(),
            attached: Cell::default(),
            unattached: Cell::default(),
            unkept_steps: Cell::default(),
            deferred: RefCell::default(),
            sticky: RefCell::default(),
            failed_commands: FailedCommands::default(),
            skip: RefCell::default(),
            tasks: RefCell::default(),
            children: Children::default(),
            test_lab: RefCell::new(test_lab),
            ended: Cell::new(false),
        })
    }
}

impl TestRun {
    /// Keeps an attachment, as long as the test has not too much of them.
    pub(super) fn attach(&self, attachment: Attachment) {
        let size = attachment.content.len() + attachment.name.len();
        let attached = self.attached.get().saturating_add(size);
        let mut kept = self.attachments.borrow_mut();
        if attached > MAX_ATTACHED || kept.len() >= MAX_ATTACHMENTS {
            let (count, bytes) = self.unattached.get();
            self.unattached.set((count + 1, bytes + size));
            return;
        }
        self.attached.set(attached);
        kept.push(attachment);
    }

    /// Begins a step; its index, as long as the test has not too many of them.
    pub(super) fn begin_step(&self, name: String) -> Option<usize> {
        let mut steps = self.steps.borrow_mut();
        if steps.len() >= MAX_STEPS {
            self.unkept_steps.set(self.unkept_steps.get() + 1);
            return None;
        }
        steps.push(Step {
            name: without_middle(name, MAX_NAME),
            started: Instant::now(),
            duration: None,
            ok: false,
        });
        Some(steps.len() - 1)
    }

    /// Notes for the log on what was not kept.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let (count @ 1.., bytes) = self.unattached.get() {
            notes.push(format!(
                "… {count} attachments ({bytes} bytes) were dropped: a test keeps {MAX_ATTACHMENTS} and {} MiB of them …",
                MAX_ATTACHED >> 20
            ));
        }
        if let count @ 1.. = self.unkept_steps.get() {
            notes.push(format!(
                "… {count} steps are not shown: a test keeps the first {MAX_STEPS} …"
            ));
        }
        notes
    }
}

impl fmt::Debug for TestRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestRun")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// How a test ended against what its meta expects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    /// It failed as expected; counts as passed.
    Fail(String),
    /// It passed although it was expected to fail; counts as failed.
    Pass(String),
}

/// How a test ended.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    pub(crate) status: TestStatus,
    /// Set where the meta has `expect_fail` and it mattered.
    pub(crate) expected: Option<Expected>,
    /// Why it failed or was skipped.
    pub(crate) message: String,
    /// The failure behind the message.
    pub(crate) failure: Option<Failure>,
    /// The deadline passed.
    pub(crate) timed_out: bool,
    /// The user ended the run.
    pub(crate) cancelled: bool,
    pub(crate) log: Vec<String>,
    pub(crate) steps: Vec<Step>,
    pub(crate) attachments: Vec<Attachment>,
    /// The ends of the VMs' consoles.
    pub(crate) consoles: Vec<ConsoleExcerpt>,
    /// How often it was run.
    pub(crate) attempts: u32,
    pub(crate) duration: Duration,
}

impl Verdict {
    /// A test that was not run.
    pub(crate) fn skipped(reason: impl Into<String>) -> Self {
        Self {
            status: TestStatus::Skipped,
            expected: None,
            message: reason.into(),
            failure: None,
            timed_out: false,
            cancelled: false,
            log: Vec::new(),
            steps: Vec::new(),
            attachments: Vec::new(),
            consoles: Vec::new(),
            attempts: 0,
            duration: Duration::ZERO,
        }
    }
}
