//! How a service treats commands while QEMU stops a machine.
//!
//! QEMU waits for all commands in flight before it has stopped a machine, so delays must not hold it up. Then, as the
//! last command to each disk, it sends a flush that the guest has not asked for; saving, unplugging and quitting send
//! more. Given to the disk, they would make writes durable that a power cut loses, and use up counts of faults. Nothing
//! in a flush says whose it is, but a machine that is paused sends no commands: the last flush before is QEMU's.
//!
//! QEMU waits for the answer to a flush before it has stopped the machine, so the answer cannot wait until it is known
//! whose flush it was. If it was the guest's, what it answered must hold: all that can fail of a flush is done before
//! the answer.

use crate::command::{Command, CommandKind};
use crate::export::{Export, FlushPoint};
use parking_lot::Mutex;
use rustix::io::Errno;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a service does with delays and flushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pace {
    /// Delays apply, and flushes are the guest's.
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
#[derive(Debug, Default)]
pub(super) struct PaceControl {
    /// So that the usual case takes no lock.
    is_changed: AtomicBool,
    state: Mutex<State>,
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

    /// Decides about a command that has arrived, before the disk does.
    pub(super) fn treat(&self, command: Command, export: &dyn Export) -> Treatment {
        if self.is_normal() {
            return Treatment::Usual;
        }
        let mut state = self.state.lock();
        // What is held back was followed by a command, so it was the guest's.
        state.release(export);
        if command.kind != CommandKind::Flush || state.pace == Pace::Normal {
            return Treatment::Usual;
        }
        if state.pace == Pace::Paused {
            return Treatment::Answered(Ok(()));
        }
        let prepared = export.prepare_flush(command);
        state.held = Some(HeldFlush { command, prepared });
        Treatment::Answered(prepared.map(drop))
    }

    /// A client has disconnected: its last flush was QEMU's, which flushes a disk when it closes it.
    pub(super) fn leave(&self) {
        self.state.lock().held = None;
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
