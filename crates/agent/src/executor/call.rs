//! One call that is open: its credit, its input, its command, its cancellation.

use crate::failure::OpResult;
use crate::sys::{Errno, Sys, signal};
use provium_protocol::frame::INITIAL_WINDOW;
use provium_protocol::{CallId, Lane, Op, StreamId};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Locks; a thread that panicked would have ended the process.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What comes next on the input channel.
pub(super) enum Input {
    Bytes(Vec<u8>),
    End,
}

/// Where the result of a call is delivered.
#[derive(Debug)]
pub(super) enum Recipient {
    Host,
    /// The batch of which the call is an entry.
    Batch(Arc<dyn EntryRecipient>),
}

/// Takes the results of the calls that it has started.
pub(super) trait EntryRecipient: std::fmt::Debug + Send + Sync {
    fn entry_finished(self: Arc<Self>, entry: CallId, result: OpResult);
}

/// What a call does, as far as a join and the signals to all commands distinguish it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallKind {
    Command(RunMode),
    Batch,
    Other,
}

/// Whether the caller waits for the end of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunMode {
    Foreground,
    Background,
}

/// A call.
#[derive(Debug)]
pub(crate) struct Call {
    pub(super) id: CallId,
    pub(super) lane: Lane,
    pub(super) recipient: Recipient,
    pub(super) kind: CallKind,
    /// Its result has bytes for the output channel.
    pub(super) sends_output: bool,
    flow: Mutex<Flow>,
    cancelled: AtomicBool,
    /// Its reply was sent: nothing may follow.
    answered: AtomicBool,
    /// The host was informed that it waits.
    informed: AtomicBool,
    process: Mutex<Process>,
}

#[derive(Debug)]
struct Flow {
    /// Bytes that may be sent, by channel.
    credit: [u64; 3],
    input: VecDeque<Vec<u8>>,
    buffered: usize,
    ended: bool,
}

/// The command of the call.
#[derive(Debug)]
enum Process {
    /// Not started; signals that came early.
    Expected(Vec<(i32, bool)>),
    Running(i32),
    Gone,
}

impl Call {
    pub(super) fn new(id: CallId, lane: Lane, recipient: Recipient, op: Option<&Op>) -> Self {
        let kind = match op {
            Some(Op::Exec(exec)) if exec.background => CallKind::Command(RunMode::Background),
            Some(Op::Exec(_)) => CallKind::Command(RunMode::Foreground),
            Some(Op::Batch { .. }) => CallKind::Batch,
            _ => CallKind::Other,
        };
        let window = u64::from(INITIAL_WINDOW);
        Self {
            id,
            lane,
            recipient,
            kind,
            sends_output: op.is_some_and(Op::sends_output),
            flow: Mutex::new(Flow {
                credit: [window; 3],
                input: VecDeque::new(),
                buffered: 0,
                ended: false,
            }),
            cancelled: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            informed: AtomicBool::new(false),
            process: Mutex::new(Process::Expected(Vec::new())),
        }
    }

    /// Whether a join waits for it, and then in which mode it runs.
    pub(super) fn delays_join(&self) -> Option<RunMode> {
        match self.kind {
            CallKind::Command(mode) => Some(mode),
            CallKind::Batch => Some(RunMode::Foreground),
            CallKind::Other => None,
        }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    pub(super) fn is_answered(&self) -> bool {
        self.answered.load(Ordering::Acquire)
    }

    /// Marks it answered; false when it was already.
    pub(super) fn set_answered(&self) -> bool {
        !self.answered.swap(true, Ordering::AcqRel)
    }

    /// Marks that the host was informed that it waits; false if it was already.
    pub(super) fn set_informed(&self) -> bool {
        !self.informed.swap(true, Ordering::AcqRel)
    }

    pub(super) fn is_informed(&self) -> bool {
        self.informed.load(Ordering::Acquire)
    }

    pub(super) fn is_of_host(&self) -> bool {
        matches!(self.recipient, Recipient::Host)
    }

    pub(super) fn grant(&self, channel: StreamId, bytes: u32) {
        let credit = &mut lock(&self.flow).credit[channel as usize];
        *credit = credit.saturating_add(u64::from(bytes));
    }

    /// How many bytes may be sent now.
    pub(super) fn credit(&self, channel: StreamId) -> usize {
        usize::try_from(lock(&self.flow).credit[channel as usize]).unwrap_or(usize::MAX)
    }

    /// Takes note of what was sent.
    pub(super) fn spend(&self, channel: StreamId, bytes: usize) {
        let credit = &mut lock(&self.flow).credit[channel as usize];
        *credit = credit.saturating_sub(bytes as u64);
    }

    /// Takes input in; returns how much waits now.
    pub(super) fn push_input(&self, bytes: Vec<u8>) -> usize {
        let mut flow = lock(&self.flow);
        flow.buffered += bytes.len();
        flow.input.push_back(bytes);
        flow.buffered
    }

    pub(super) fn end_input(&self) {
        lock(&self.flow).ended = true;
    }

    pub(super) fn input_ended(&self) -> bool {
        lock(&self.flow).ended
    }

    /// All of the input, if it has ended and is not longer than this.
    pub(super) fn whole_input(&self, limit: usize) -> Option<Vec<u8>> {
        let mut flow = lock(&self.flow);
        if !flow.ended || flow.buffered > limit {
            return None;
        }
        flow.buffered = 0;
        Some(flow.input.drain(..).flatten().collect())
    }

    /// The next input that is there; `None`: nothing yet.
    pub(super) fn try_input(&self) -> Option<Input> {
        let mut flow = lock(&self.flow);
        match flow.input.pop_front() {
            Some(bytes) => {
                flow.buffered -= bytes.len();
                Some(Input::Bytes(bytes))
            }
            None => flow.ended.then_some(Input::End),
        }
    }

    /// The command runs: passes on the signals that came early.
    pub(super) fn process_started(&self, pid: i32) {
        let mut process = lock(&self.process);
        if let Process::Expected(signals) = &*process {
            for (number, group) in signals {
                let _ = signal::send(pid, *number, *group);
            }
        }
        *process = Process::Running(pid);
    }

    /// The command was collected: its number may soon be another's.
    pub(super) fn process_gone(&self) {
        *lock(&self.process) = Process::Gone;
    }

    /// The command's number, while it runs.
    pub(super) fn process(&self) -> Option<i32> {
        match *lock(&self.process) {
            Process::Running(pid) => Some(pid),
            _ => None,
        }
    }

    /// Signals the command, now or as soon as it runs. `ESRCH` when it has ended.
    pub(super) fn signal(&self, number: i32, group: bool) -> Sys<()> {
        match &mut *lock(&self.process) {
            Process::Expected(signals) => {
                signals.push((number, group));
                Ok(())
            }
            Process::Running(pid) => signal::send(*pid, number, group),
            Process::Gone => Err(Errno::SRCH),
        }
    }
}
