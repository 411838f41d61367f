//! The slot that the executor has reserved for a process, from that process's side.

use crate::sys::area::Area;
use crate::sys::process;
use crate::sys::slot::{PipeEnd, Slot, SlotState, Ticket};

/// A slot, and the ticket for one use of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReservedSlot {
    pub(crate) area: Area,
    pub(crate) index: usize,
    pub(crate) ticket: Ticket,
}

/// The state of a stored result.
pub(super) struct ResultState {
    /// The executor still expects this process.
    pub(super) is_expected: bool,
    /// The result is in the memory of this process, which must not exit before it was read.
    pub(super) is_in_memory: bool,
}

impl ReservedSlot {
    fn slot(&self) -> &'static Slot {
        self.area.slot(self.index)
    }

    /// Begins the work; returns false if this process is too late.
    pub(super) fn begin(&self) -> bool {
        self.slot().begin(self.ticket, process::id())
    }

    /// Offers a pipe's end to the executor, which takes it during [`Self::hand_over`].
    pub(super) fn offer(&self, which: PipeEnd, fd: i32) {
        self.slot().offer(which, fd);
    }

    /// Waits until the executor has taken what was offered. Returns false if it no longer expects this process.
    pub(super) fn hand_over(&self) -> bool {
        let offered = self.slot().advance(self.ticket, SlotState::Offered);
        self.area.ring();
        offered && self.slot().await_taken(self.ticket, SlotState::Offered)
    }

    /// Stores the result, and rings the executor's bell.
    pub(super) fn store(&self, data: &[u8], message: &[u8]) -> ResultState {
        let is_in_memory = self.slot().leave(data, message);
        let is_expected = self.slot().advance(self.ticket, SlotState::Done);
        if is_expected {
            self.area.ring();
        }
        ResultState {
            is_expected,
            is_in_memory,
        }
    }

    /// Waits until the executor has read the stored result; returns whether it took it.
    pub(super) fn await_reader(&self) -> bool {
        self.slot().await_taken(self.ticket, SlotState::Done)
    }
}
