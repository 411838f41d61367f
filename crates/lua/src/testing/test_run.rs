//! A test while it runs.

use crate::engine::log::LogLines;
use crate::engine::task::TaskGroup;
use crate::text::without_middle;
use mlua::{Function, Value};
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
    /// Its tasks and what they share.
    pub(crate) group: Rc<TaskGroup>,
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
    /// `t:skip`.
    pub(crate) skip: RefCell<Option<String>>,
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
    pub(crate) fn new(name: String, meta: Value, log: LogLines) -> Rc<Self> {
        let log = Rc::new(RefCell::new(log));
        Rc::new(Self {
            group: TaskGroup::new(Some(name.clone()), log),
            name,
            meta,
            steps: RefCell::default(),
            attachments: RefCell::default(),
            attached: Cell::default(),
            unattached: Cell::default(),
            unkept_steps: Cell::default(),
            deferred: RefCell::default(),
            skip: RefCell::default(),
        })
    }

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
