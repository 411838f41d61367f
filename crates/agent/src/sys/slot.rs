//! The memory through which the executor and one operation process (or a worker that starts) communicate.
//!
//! ```text
//! Expected ── process ──▶ Running ── process ──▶ Offered ── executor ──▶ Taken
//!                            │                                             │
//!                            └──────── process ──▶ Done ◀──────────────────┘
//! ```
//!
//! The executor may change every state to Aborted. A process may be late: its raw process was killed, and
//! the slot, or the whole area, already serves others. So each use has a *ticket*, which is in the same
//! word as the state: a process with another ticket can change nothing, and exits.

#![expect(unsafe_code, reason = "bytes in a shared mapping")]

use super::futex;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

/// Bytes that a slot can hold.
pub(crate) const INLINE: usize = 512 - 64;
/// How many bits of the word are the state.
const STATE_BITS: u32 = 3;
const STATE_MASK: u32 = (1 << STATE_BITS) - 1;

/// Identifies one use of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket(u32);

impl Ticket {
    /// The next one. For the executor.
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        Self::of(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The ticket of this number, as an argument of a request has it.
    pub(crate) fn of(number: u32) -> Self {
        Self(number & (u32::MAX >> STATE_BITS))
    }

    pub(crate) fn number(self) -> i64 {
        i64::from(self.0)
    }

    fn word(self, state: SlotState) -> u32 {
        self.0 << STATE_BITS | state as u32
    }
}

#[repr(C, align(512))]
pub(crate) struct Slot {
    /// The ticket, and the state.
    word: AtomicU32,
    pid: AtomicI32,
    /// Ends of pipes for the executor: input, output, error, and the one that closes on exec.
    ends: [AtomicI32; 4],
    data: AtomicU32,
    len: AtomicU32,
    address: AtomicU64,
    inline: [std::cell::UnsafeCell<u8>; INLINE],
}

/// State of an operation process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum SlotState {
    /// Free.
    Free = 0,
    /// The process is being forked.
    Expected = 1,
    /// It works.
    Running = 2,
    /// It waits until the executor has taken the ends of its pipes.
    Offered = 3,
    /// They were taken.
    Taken = 4,
    /// The result is available.
    Done = 5,
    /// The process has to exit.
    Aborted = 6,
}

/// Which end of a pipe it is, as an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PipeEnd {
    Input = 0,
    Output = 1,
    Error = 2,
    Exec = 3,
}

/// The result of an operation.
pub(crate) struct Outcome {
    /// Bytes for the output channel.
    pub(crate) data: Vec<u8>,
    pub(crate) message: Message,
}

/// An encoded result.
pub(crate) enum Message {
    Here(Vec<u8>),
    /// In the memory of the process, which waits.
    There {
        address: u64,
        len: usize,
    },
}

impl Slot {
    pub(crate) fn get(&self) -> SlotState {
        match self.word.load(Ordering::SeqCst) & STATE_MASK {
            1 => SlotState::Expected,
            2 => SlotState::Running,
            3 => SlotState::Offered,
            4 => SlotState::Taken,
            5 => SlotState::Done,
            6 => SlotState::Aborted,
            _ => SlotState::Free,
        }
    }

    /// Whether its process will ring the bell.
    pub(super) fn has_yet_to_ring(&self) -> bool {
        matches!(self.get(), SlotState::Expected | SlotState::Running)
    }

    // The executor's side.

    /// Makes it ready for the process with this ticket.
    pub(crate) fn expect(&self, ticket: Ticket) {
        for end in &self.ends {
            end.store(-1, Ordering::Relaxed);
        }
        self.pid.store(0, Ordering::Relaxed);
        self.data.store(0, Ordering::Relaxed);
        self.len.store(0, Ordering::Relaxed);
        self.address.store(0, Ordering::Relaxed);
        self.word
            .store(ticket.word(SlotState::Expected), Ordering::SeqCst);
    }

    /// Changes to `state` and wakes the process.
    pub(crate) fn tell(&self, state: SlotState) {
        let ticket = Ticket(self.word.load(Ordering::Relaxed) >> STATE_BITS);
        self.word.store(ticket.word(state), Ordering::SeqCst);
        futex::wake(&self.word);
    }

    /// The process that has begun, as it sees itself. A process that begins after [`SlotState::Aborted`]
    /// was set, and is not returned here, exits.
    pub(crate) fn process(&self) -> Option<i32> {
        Some(self.pid.load(Ordering::SeqCst)).filter(|pid| *pid > 1)
    }

    pub(crate) fn end(&self, which: PipeEnd) -> Option<i32> {
        let number = self.ends[which as usize].load(Ordering::Acquire);
        (number >= 0).then_some(number)
    }

    /// The result, when the state is [`SlotState::Done`].
    pub(crate) fn outcome(&self) -> Outcome {
        let data = (self.data.load(Ordering::Relaxed) as usize).min(INLINE);
        let len = self.len.load(Ordering::Relaxed) as usize;
        let address = self.address.load(Ordering::Relaxed);
        let message = if address == 0 {
            Message::Here(self.bytes(data, len.min(INLINE - data)))
        } else {
            Message::There { address, len }
        };
        Outcome {
            data: self.bytes(0, data),
            message,
        }
    }

    fn bytes(&self, start: usize, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        // SAFETY: callers keep start and length within the slot; a test that writes there meanwhile
        // damages its own result.
        unsafe {
            let from = self.inline.as_ptr().cast::<u8>().add(start);
            ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), len);
        }
        bytes
    }

    // The operation process's side.

    /// Begins; returns false if this process is too late.
    pub(crate) fn begin(&self, ticket: Ticket, pid: i32) -> bool {
        let expected = ticket.word(SlotState::Expected);
        if self.word.load(Ordering::SeqCst) != expected {
            return false;
        }
        // Before the state: an executor that aborts from now on knows whom it has to kill.
        self.pid.store(pid, Ordering::SeqCst);
        self.change(expected, ticket.word(SlotState::Running))
    }

    fn change(&self, from: u32, to: u32) -> bool {
        self.word
            .compare_exchange(from, to, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok()
    }

    pub(crate) fn offer(&self, which: PipeEnd, fd: i32) {
        self.ends[which as usize].store(fd, Ordering::Release);
    }

    /// Changes the state; returns false if this process is not expected any more.
    pub(crate) fn advance(&self, ticket: Ticket, state: SlotState) -> bool {
        [SlotState::Running, SlotState::Taken]
            .into_iter()
            .any(|from| self.change(ticket.word(from), ticket.word(state)))
    }

    /// Waits until the executor has changed `state`; returns whether to [`SlotState::Taken`].
    pub(crate) fn await_taken(&self, ticket: Ticket, state: SlotState) -> bool {
        let word = ticket.word(state);
        while self.word.load(Ordering::SeqCst) == word {
            futex::wait(&self.word, word, None);
        }
        self.word.load(Ordering::SeqCst) == ticket.word(SlotState::Taken)
    }

    /// Leaves the result. True when it is in the process's own memory, which must stay.
    pub(crate) fn leave(&self, data: &[u8], message: &[u8]) -> bool {
        let fits = data.len() + message.len() <= INLINE;
        let put = |start: usize, bytes: &[u8]| {
            // SAFETY: what is put there fits, see above and below; this process alone writes to its
            // slot.
            unsafe {
                let to = self.inline.as_ptr().cast::<u8>().cast_mut().add(start);
                ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
            }
        };
        let data = &data[..data.len().min(INLINE)];
        put(0, data);
        self.data
            .store(u32::try_from(data.len()).unwrap_or(0), Ordering::Relaxed);
        self.len
            .store(u32::try_from(message.len()).unwrap_or(0), Ordering::Relaxed);
        if fits {
            put(data.len(), message);
        } else {
            self.address
                .store(message.as_ptr().addr() as u64, Ordering::Relaxed);
        }
        !fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::area::{Area, map_all};

    /// A slot whose use with the returned ticket was aborted.
    fn aborted(area: usize) -> (&'static Slot, Ticket) {
        map_all().unwrap();
        let slot = Area::of(area).unwrap().slot(3);
        let ticket = Ticket::next();
        slot.expect(ticket);
        (slot, ticket)
    }

    #[test]
    fn a_process_that_was_aborted_does_not_begin() {
        let (slot, ticket) = aborted(3);
        slot.tell(SlotState::Aborted);
        assert!(!slot.begin(ticket, 99));
        assert_eq!(slot.process(), None);
    }

    #[test]
    fn a_process_that_waits_while_its_slot_is_emptied_is_not_taken() {
        let (slot, ticket) = aborted(4);
        assert!(slot.begin(ticket, 99));
        assert!(slot.advance(ticket, SlotState::Offered));
        assert_eq!(slot.process(), Some(99));
        slot.tell(SlotState::Aborted);
        Area::of(4).unwrap().empty();
        assert!(!slot.await_taken(ticket, SlotState::Offered));
        assert!(!slot.advance(ticket, SlotState::Done));
    }

    #[test]
    fn a_late_process_changes_nothing_for_the_next_one() {
        let (slot, late) = aborted(5);
        assert!(slot.begin(late, 99));
        let ticket = Ticket::next();
        slot.expect(ticket);
        assert!(!slot.begin(late, 99));
        assert!(!slot.advance(late, SlotState::Offered));
        assert!(slot.begin(ticket, 100));
        assert!(slot.advance(ticket, SlotState::Offered));
        slot.tell(SlotState::Taken);
        assert!(!slot.await_taken(late, SlotState::Offered));
        assert!(slot.await_taken(ticket, SlotState::Offered));
        assert_eq!(slot.process(), Some(100));
    }
}
