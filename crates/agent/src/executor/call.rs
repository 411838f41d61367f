//! One call that is open on this lane: its credit, its input, its cancelling.

use crate::sys::{process, signal};
use provium_protocol::frame::INITIAL_WINDOW;
use provium_protocol::{CallId, Channel};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Locks; a thread that panicked would have ended the process.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The host no longer wants the call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cancelled;

/// What comes next on the input channel.
pub(crate) enum Input {
    Bytes(Vec<u8>),
    End,
}

/// A call.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) id: CallId,
    /// A command of the `run_async` family.
    pub(crate) background: bool,
    flow: Mutex<Flow>,
    changed: Condvar,
    cancelled: AtomicBool,
    /// Its reply is out: nothing may follow.
    answered: AtomicBool,
    /// The thread that works on it and may be waiting; 0: none.
    thread: AtomicI32,
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
    pub(crate) fn new(id: CallId, background: bool) -> Self {
        let window = u64::from(INITIAL_WINDOW);
        Self {
            id,
            background,
            flow: Mutex::new(Flow {
                credit: [window; 3],
                input: VecDeque::new(),
                buffered: 0,
                ended: false,
            }),
            changed: Condvar::new(),
            cancelled: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            thread: AtomicI32::new(0),
            process: Mutex::new(Process::Expected(Vec::new())),
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    pub(super) fn is_answered(&self) -> bool {
        self.answered.load(Ordering::Acquire)
    }

    pub(super) fn set_answered(&self) {
        self.answered.store(true, Ordering::Release);
    }

    /// The thread that works on it; 0: none.
    pub(super) fn thread(&self) -> i32 {
        self.thread.load(Ordering::Acquire)
    }

    /// The error, when the host no longer wants it.
    pub(crate) fn wanted(&self) -> Result<(), Cancelled> {
        if self.is_cancelled() {
            Err(Cancelled)
        } else {
            Ok(())
        }
    }

    /// Marks it and wakes who waits for credit or input.
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        // Whoever checks before it waits does so under the lock.
        drop(lock(&self.flow));
        self.changed.notify_all();
        self.interrupt();
    }

    /// Gets the thread that works on it out of whatever it waits in. A thread that was only about to
    /// wait is missed, so this is repeated until the call is answered.
    pub(super) fn interrupt(&self) {
        let thread = self.thread.load(Ordering::Acquire);
        if thread != 0 {
            signal::interrupt(thread);
        }
    }

    /// Runs `work`, which [`Self::interrupt`] can break.
    pub(crate) fn interruptible<R>(&self, work: impl FnOnce() -> R) -> R {
        self.thread.store(process::thread_id(), Ordering::Release);
        let result = work();
        self.thread.store(0, Ordering::Release);
        result
    }

    pub(super) fn grant(&self, channel: Channel, bytes: u32) {
        let mut flow = lock(&self.flow);
        let credit = &mut flow.credit[channel as usize];
        *credit = credit.saturating_add(u64::from(bytes));
        drop(flow);
        self.changed.notify_all();
    }

    /// How many bytes may be sent now.
    pub(crate) fn credit(&self, channel: Channel) -> usize {
        usize::try_from(lock(&self.flow).credit[channel as usize]).unwrap_or(usize::MAX)
    }

    /// Waits until some may be sent.
    pub(crate) fn await_credit(&self, channel: Channel) -> Result<usize, Cancelled> {
        let mut flow = lock(&self.flow);
        loop {
            self.wanted()?;
            let credit = flow.credit[channel as usize];
            if credit > 0 {
                return Ok(usize::try_from(credit).unwrap_or(usize::MAX));
            }
            flow = self
                .changed
                .wait(flow)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes note of what was sent.
    pub(crate) fn spend(&self, channel: Channel, bytes: usize) {
        let mut flow = lock(&self.flow);
        let credit = &mut flow.credit[channel as usize];
        *credit = credit.saturating_sub(bytes as u64);
    }

    /// Takes input in; returns how much waits now.
    pub(super) fn push_input(&self, bytes: Vec<u8>) -> usize {
        let mut flow = lock(&self.flow);
        flow.buffered += bytes.len();
        flow.input.push_back(bytes);
        let buffered = flow.buffered;
        drop(flow);
        self.changed.notify_all();
        buffered
    }

    pub(super) fn end_input(&self) {
        lock(&self.flow).ended = true;
        self.changed.notify_all();
    }

    pub(crate) fn input_ended(&self) -> bool {
        lock(&self.flow).ended
    }

    /// The next input that is there; `None`: nothing yet.
    pub(crate) fn try_input(&self) -> Option<Input> {
        lock(&self.flow).take_input()
    }

    /// Waits for input.
    pub(crate) fn await_input(&self) -> Result<Input, Cancelled> {
        let mut flow = lock(&self.flow);
        loop {
            self.wanted()?;
            if let Some(input) = flow.take_input() {
                return Ok(input);
            }
            flow = self
                .changed
                .wait(flow)
                .unwrap_or_else(PoisonError::into_inner);
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

    /// The command is about to be collected: its number may soon be another's.
    pub(super) fn process_gone(&self) {
        *lock(&self.process) = Process::Gone;
    }

    /// Signals the command, now or as soon as it runs. `ESRCH` when it has ended.
    pub(super) fn signal(&self, number: i32, group: bool) -> crate::sys::Sys<()> {
        match &mut *lock(&self.process) {
            Process::Expected(signals) => {
                signals.push((number, group));
                Ok(())
            }
            Process::Running(pid) => signal::send(*pid, number, group),
            Process::Gone => Err(crate::sys::Errno::SRCH),
        }
    }
}

impl Flow {
    fn take_input(&mut self) -> Option<Input> {
        match self.input.pop_front() {
            Some(bytes) => {
                self.buffered -= bytes.len();
                Some(Input::Bytes(bytes))
            }
            None => self.ended.then_some(Input::End),
        }
    }
}
