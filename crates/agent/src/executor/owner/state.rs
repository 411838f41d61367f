//! The state of an owner, which its lock protects.

use super::effect::Effect;
use super::queued_op::QueuedOp;
use super::raw_call::BackgroundCall;
use super::request::{NOTIFY_AFTER, PostedRequest, Request};
use super::slot_use::SlotUse;
use crate::executor::call::Call;
use crate::executor::process_tree::{Stray, kill_tree};
use crate::executor::root::Root;
use crate::executor::table::Table;
use crate::failure::{self, OpResult};
use crate::sys::area::{Area, Code, SLOTS, THREADS};
use crate::sys::process::{self, ExitStatus};
use crate::sys::slot::{SlotState, Ticket};
use crate::sys::{Errno, Sys, raw};
use provium_protocol::{Lane, Op, WireError};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Interval of the checks whether a raw process has answered, and whether it is still the same program.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// The raw process.
#[derive(Debug)]
pub(super) enum RawProcess {
    /// The owner's thread has to fork it.
    Missing,
    Running {
        pid: i32,
        /// Process 1 of its pid namespace, when it has one of its own.
        reaper: Option<i32>,
    },
    /// It was a worker's; how it ended.
    Ended(String),
    /// The worker was closed.
    Closed,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) lane: Lane,
    pub(super) area: Area,
    /// Variables of its commands.
    pub(super) env: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) raw_process: RawProcess,
    pub(super) generation: u64,
    pub(super) posted: Option<PostedRequest>,
    pub(super) exact: VecDeque<QueuedOp>,
    pub(super) operations: VecDeque<QueuedOp>,
    pub(super) slots: Table<usize, SlotUse>,
    pub(super) threads: Table<usize, BackgroundCall>,
    /// Memory in the raw process that can be unmapped.
    pub(super) unmap: Vec<u64>,
    pub(super) root: Root,
    /// Children of the raw process are in a pid namespace that it is not in itself.
    pub(super) has_foreign_children: bool,
    /// Children that raw calls made, and descendants of commands that were signalled.
    pub(super) strays: Vec<Stray>,
    /// How the raw process ended, until that is handled.
    pub(super) ending: Option<ExitStatus>,
    /// The raw process could not be interrupted and is being killed.
    pub(super) is_being_killed: bool,
    /// Calls that wait for the end of the worker.
    pub(super) closing: Vec<Arc<Call>>,
    pub(super) effects: Vec<Effect>,
}

impl State {
    pub(super) fn new(lane: Lane, area: Area, root: Root, env: Vec<(Vec<u8>, Vec<u8>)>) -> Self {
        Self {
            lane,
            area,
            env,
            raw_process: RawProcess::Missing,
            generation: 0,
            posted: None,
            exact: VecDeque::new(),
            operations: VecDeque::new(),
            slots: Table::default(),
            threads: Table::default(),
            unmap: Vec::new(),
            root,
            has_foreign_children: false,
            strays: Vec::new(),
            ending: None,
            is_being_killed: false,
            closing: Vec::new(),
            effects: Vec::new(),
        }
    }

    pub(super) fn is_worker(&self) -> bool {
        self.lane >= Lane::FIRST_WORKER
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.raw_process, RawProcess::Running { .. })
    }

    pub(super) fn pid(&self) -> Option<i32> {
        match self.raw_process {
            RawProcess::Running { pid, .. } => Some(pid),
            _ => None,
        }
    }

    /// Whether the raw process is in a pid namespace of its own, so that it sees other process ids.
    pub(super) fn is_foreign(&self) -> bool {
        matches!(
            self.raw_process,
            RawProcess::Running {
                reaper: Some(_),
                ..
            }
        )
    }

    /// Why a call fails; `None` if it need not.
    pub(super) fn refusal(&self) -> Option<WireError> {
        match &self.raw_process {
            RawProcess::Ended(how) => Some(failure::lane_died(how)),
            RawProcess::Closed => Some(failure::no_such_lane(self.lane)),
            _ => None,
        }
    }

    // Requests to the raw process.

    pub(super) fn post(&mut self, request: Request, code: Code, arguments: &[i64]) {
        self.posted = Some(PostedRequest::now(request));
        self.area.post(code, arguments);
    }

    /// When to check again even if the bell was not rung.
    pub(super) fn timeout(&self) -> Option<Duration> {
        let posted = self.posted.as_ref()?;
        // A process that was forked and killed at once has rung before the raw process could answer.
        if posted.slot().is_some()
            || posted.executes()
            || (!self.threads.is_empty() && posted.is_raw_call())
        {
            return Some(CHECK_INTERVAL);
        }
        let waited = posted.since.elapsed();
        let until = if !self.operations.is_empty() {
            posted.relief_after()
        } else if posted.reports_waiting() || self.exact.iter().any(QueuedOp::reports_waiting) {
            NOTIFY_AFTER
        } else {
            return None;
        };
        Some(until.saturating_sub(waited).max(Duration::from_millis(1)))
    }

    /// Whether the owner's thread must learn of an operation at once.
    pub(super) fn needs_watching(&self, op: &Op) -> bool {
        matches!(op, Op::Syscall(call) if call.background || raw::executes(call.nr))
            || self.posted.is_some()
            || !self.threads.is_empty()
            || !self.is_running()
    }

    /// Whether the raw process is becoming another program.
    pub(super) fn executes(&self) -> bool {
        self.posted.as_ref().is_some_and(PostedRequest::executes)
            || self.threads.values().any(|thread| thread.raw.executes())
    }

    /// Whether nothing is left of a worker that was closed.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.raw_process, RawProcess::Closed)
            && self.slots.is_empty()
            && self.effects.is_empty()
    }

    // Slots and threads.

    pub(super) fn free_slot(&self) -> Option<usize> {
        (0..SLOTS).find(|index| !self.slots.contains_key(index))
    }

    pub(super) fn free_thread(&self) -> Option<usize> {
        (0..THREADS).find(|index| {
            !self.threads.contains_key(index)
                && self.area.thread(*index).alive.load(Ordering::Acquire) == 0
        })
    }

    pub(super) fn ticket_of(&self, slot: usize) -> Ticket {
        self.slots
            .get(&slot)
            .map_or(Ticket::of(0), |used| used.ticket)
    }

    /// The process id of a slot's process, if it is known.
    pub(super) fn process_in(&self, slot: usize) -> Option<i32> {
        self.slots.get(&slot)?.pid
    }

    pub(super) fn is_worker_in(&self, slot: usize) -> bool {
        self.slots
            .get(&slot)
            .is_some_and(|used| used.worker.is_some())
    }

    /// Aborts the operation in a slot. Kills its process even if the raw process has not reported it.
    pub(super) fn abort_slot(&self, index: usize) {
        let slot = self.area.slot(index);
        slot.tell(SlotState::Aborted);
        // A test can write there, too.
        let begun = || slot.process().filter(|pid| process::is_child(*pid));
        if let Some(pid) = self.process_in(index).or_else(begun) {
            kill_tree(pid);
        }
    }

    // Results.

    pub(super) fn finish(&mut self, call: Arc<Call>, result: OpResult) {
        self.effects.push(Effect::Finish(call, result));
    }

    /// Answers a call whose raw process has ended.
    pub(super) fn fail(&mut self, call: Arc<Call>, how: &str) {
        let error = if call.is_cancelled() {
            failure::cancelled()
        } else {
            failure::lane_died(how)
        };
        self.finish(call, Err(error));
    }
}

/// What a request returned: a number, or an errno.
pub(super) fn value_of(result: i64) -> Sys<u64> {
    if (-4095..0).contains(&result) {
        return Err(Errno(i32::try_from(-result).unwrap_or(libc::EIO)));
    }
    Ok(result.cast_unsigned())
}

/// An argument of a request.
pub(super) fn argument(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
