//! Commands that wait before they are carried out.

use super::pace::PaceControl;
use crate::command::Admission;
use parking_lot::{Condvar, Mutex};
use provium_nbd::Request;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The data that the waiting commands of a connection may have, bytes. Below that, another command is accepted.
const MOST_BYTES: usize = 64 << 20;
/// The number of commands that may wait.
const MOST_COMMANDS: usize = 1024;
/// The longest delay. A longer one may not fit into an `Instant`.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// A delayed command, and what carrying it out needs.
#[derive(Debug)]
pub(super) struct DelayedCommand {
    pub(super) admission: Admission,
    pub(super) request: Request,
    pub(super) data: Vec<u8>,
}

/// The commands of a connection that wait, in the order of their time.
#[derive(Debug, Default)]
pub(super) struct Delays {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// By the time, and the order of arrival.
    waiting: BTreeMap<(Instant, u64), DelayedCommand>,
    arrived: u64,
    bytes: usize,
    end: End,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum End {
    /// More may come.
    #[default]
    Open,
    /// No further command is accepted.
    Closed,
    /// The waiting commands are dropped.
    Stopped,
}

impl Delays {
    /// Whether a command would have to wait for space.
    pub(super) fn is_full(&self) -> bool {
        self.state.lock().is_full()
    }

    /// Adds a command; waits while too much is there. Returns false if nothing waits any more, and the command is
    /// dropped.
    pub(super) fn push(&self, delayed: DelayedCommand) -> bool {
        let delay = delayed.admission.delay.min(LONGEST);
        let due = Instant::now() + delay;
        let mut state = self.state.lock();
        while state.is_full() && state.end == End::Open {
            self.changed.wait(&mut state);
        }
        if state.end != End::Open {
            return false;
        }
        state.arrived += 1;
        state.bytes += delayed.data.len();
        let key = (due, state.arrived);
        state.waiting.insert(key, delayed);
        self.changed.notify_all();
        true
    }

    /// The next command, when its time has come, or at once if the pace is not normal. `None` when none will follow.
    pub(super) fn next(&self, pace: &PaceControl) -> Option<DelayedCommand> {
        let mut state = self.state.lock();
        loop {
            if state.end == End::Stopped {
                return None;
            }
            match state.waiting.first_key_value() {
                None if state.end == End::Closed => return None,
                None => self.changed.wait(&mut state),
                Some((&(due, _), _)) => {
                    if due <= Instant::now() || !pace.is_normal() {
                        let (_, delayed) = state.waiting.pop_first()?;
                        state.bytes -= delayed.data.len();
                        self.changed.notify_all();
                        return Some(delayed);
                    }
                    self.changed.wait_until(&mut state, due);
                }
            }
        }
    }

    /// No command will follow; those that wait are still carried out.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        if state.end == End::Open {
            state.end = End::Closed;
        }
        self.changed.notify_all();
    }

    /// Drops the waiting commands.
    pub(super) fn stop(&self) {
        let mut state = self.state.lock();
        state.end = End::Stopped;
        state.waiting.clear();
        state.bytes = 0;
        self.changed.notify_all();
    }

    /// Checks the pace again.
    pub(super) fn wake(&self) {
        // With the lock, so that the wakeup is not lost between the check and the wait.
        let _state = self.state.lock();
        self.changed.notify_all();
    }
}

impl State {
    fn is_full(&self) -> bool {
        self.bytes >= MOST_BYTES || self.waiting.len() >= MOST_COMMANDS
    }
}
