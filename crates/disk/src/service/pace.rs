//! How a service treats commands while QEMU stops a machine.
//!
//! QEMU waits for all commands in flight before it has stopped a machine, so delays must not hold it up. Then, as the
//! last command to each disk, it sends a flush that the guest has not asked for; saving, unplugging and quitting send
//! more. Given to the disk, they would make writes durable that a power cut loses, and use up counts of faults. Nothing
//! in a flush says whose it is, but a machine that is paused sends no commands: the last flush before is QEMU's.
//!
//! When a guest panics or switches itself off, no pace has been set before QEMU flushes. QEMU reports the end on its
//! control socket first, so the owner of the machine can tell: see [`PaceControl::watch_guest`]. The guest does not run
//! any more then, so no flush that follows is one whose completion it could learn of.
//!
//! QEMU waits for the answer to a flush before it has stopped the machine, so the answer cannot wait until it is known
//! whose flush it was. If it was the guest's, what it answered must hold: all that can fail of a flush is done before
//! the answer.

use crate::command::{Command, CommandKind};
use crate::export::{Export, FlushPoint};
use parking_lot::Mutex;
use rustix::io::Errno;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Says whether the guest had ended when the command that is being treated was sent.
type GuestEndCheck = Box<dyn Fn() -> bool + Send + Sync>;

/// What a service does with delays and flushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pace {
    /// Delays apply, and flushes are the guest's as long as it has not ended.
    #[default]
    Normal,
    /// While QEMU stops a machine. Delays do not apply, also those of commands that wait already. A
    /// flush is prepared and answered at once, and is completed when another command follows it, or when the pace is
    /// normal again: then it was the guest's.
    Draining,
    /// The machine is paused. The flush that was answered last is dropped, and all that follow are answered with
    /// success and dropped.
    Paused,
}

/// The pace of a service, and the flush that is held back.
#[derive(Default)]
pub(super) struct PaceControl {
    /// So that the usual case takes no lock.
    is_changed: AtomicBool,
    state: Mutex<State>,
    has_guest_ended: OnceLock<GuestEndCheck>,
}

#[derive(Debug, Default)]
struct State {
    pace: Pace,
    held: Option<HeldFlush>,
}

/// A flush that has been answered, and may be the guest's.
#[derive(Debug)]
struct HeldFlush {
    command: Command,
    prepared: Result<FlushPoint, Errno>,
}

/// How to treat a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Treatment {
    /// It is given to the disk.
    Usual,
    /// It is answered with this, and not given to the disk.
    Answered(Result<(), Errno>),
}

impl PaceControl {
    /// Whether delays apply.
    pub(super) fn is_normal(&self) -> bool {
        !self.is_changed.load(Ordering::Acquire)
    }

    pub(super) fn set(&self, pace: Pace, export: &dyn Export) {
        let mut state = self.state.lock();
        match pace {
            Pace::Normal => state.release(export),
            Pace::Draining => {}
            Pace::Paused => state.held = None,
        }
        state.pace = pace;
        self.is_changed
            .store(pace != Pace::Normal, Ordering::Release);
    }

    /// From now on, a flush is QEMU's own if the guest has ended. The first check stays.
    pub(super) fn watch_guest(&self, has_ended: GuestEndCheck) {
        // An error means that there is one.
        let _ = self.has_guest_ended.set(has_ended);
    }

    /// Decides about a command that has arrived, before the disk does.
    pub(super) fn treat(&self, command: Command, export: &dyn Export) -> Treatment {
        let is_flush = command.kind == CommandKind::Flush;
        let is_after_end = is_flush
            && self
                .has_guest_ended
                .get()
                .is_some_and(|has_ended| has_ended());
        if self.is_normal() && !is_after_end {
            return Treatment::Usual;
        }
        let mut state = self.state.lock();
        // What is held back was followed by a command, so it was the guest's.
        state.release(export);
        if !is_flush || (state.pace == Pace::Normal && !is_after_end) {
            return Treatment::Usual;
        }
        if state.pace == Pace::Paused {
            return Treatment::Answered(Ok(()));
        }
        // An image that is written in place has all data when the guest has ended, durable or not.
        let prepared = export.prepare_flush(command);
        if is_after_end {
            return Treatment::Answered(prepared.map(drop));
        }
        state.held = Some(HeldFlush { command, prepared });
        Treatment::Answered(prepared.map(drop))
    }

    /// A client has disconnected: its last flush was QEMU's, which flushes a disk when it closes it.
    pub(super) fn leave(&self) {
        self.state.lock().held = None;
    }
}

impl fmt::Debug for PaceControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PaceControl")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl State {
    /// Completes what is held back.
    fn release(&mut self, export: &dyn Export) {
        if let Some(HeldFlush { command, prepared }) = self.held.take() {
            export.complete_flush(command, prepared);
        }
    }
}
