//! What a process writes: read as far as credit allows, and sent to the host or kept for the reply.
//!
//! Output that comes in many small pieces is gathered for a moment, so that a line costs less than a
//! message.

use crate::executor::call::Call;
use crate::executor::calls::Calls;
use crate::sys::slot::{Slot, SlotState};
use crate::sys::{Errno, fd};
use provium_protocol::StreamId;
use provium_protocol::frame::MAX_PAYLOAD;
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// The most that the kernel holds of a terminal's output: 64 KiB of flip buffers, and the line discipline's own.
const TERMINAL_CAPACITY: usize = 80 * 1024;
/// How long output is gathered after a message.
const GATHER: Duration = Duration::from_millis(1);

/// One stream that a process writes.
pub(super) struct Output {
    pub(super) channel: StreamId,
    /// Until everything was read.
    pub(super) fd: Option<OwnedFd>,
    /// Kept for the reply.
    pub(super) kept: Option<HeadAndTail>,
    /// Once the process has ended: how much of it is still to be read.
    left: Option<usize>,
    /// The end is sent with the result: of a transfer, which may have failed, and of a command of which the
    /// caller awaits the end.
    pub(super) ends_late: bool,
    /// The slot of a connection. A pipe that ends when a result is in it has no end of its own.
    slot: Option<&'static Slot>,
    /// Whether small pieces wait for more.
    pub(super) gathers: bool,
    /// When it was read last, and until when it is left alone.
    read: Option<Instant>,
    pub(super) gathering: Option<Instant>,
}

/// The beginning and the end of an output, within a limit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HeadAndTail {
    limit: usize,
    first: Vec<u8>,
    last: VecDeque<u8>,
    dropped: u64,
}

impl Output {
    /// `keep`: keep at most this many bytes for the reply, instead of sending them.
    pub(super) fn new(
        channel: StreamId,
        fd: OwnedFd,
        keep: Option<usize>,
        ends_late: bool,
        slot: Option<&'static Slot>,
    ) -> Self {
        Self {
            channel,
            fd: Some(fd),
            kept: keep.map(HeadAndTail::new),
            left: None,
            ends_late,
            slot,
            gathers: true,
            read: None,
            gathering: None,
        }
    }

    /// Whether it is left alone for a moment, while it gathers bytes.
    pub(super) fn is_gathering(&mut self, now: Instant) -> bool {
        self.gathering = self.gathering.filter(|until| now < *until);
        self.gathering.is_some()
    }

    /// The process has ended: no more is read than it has left. `terminal`: the output is a terminal's.
    pub(super) fn process_ended(&mut self, terminal: bool) {
        self.gathering = None;
        // From now on others may use the slot.
        self.ends_late |= self.slot.take().is_some();
        self.left = self.fd.as_ref().map(|fd| {
            if terminal {
                TERMINAL_CAPACITY
            } else {
                fd::readable_bytes(fd.as_raw_fd())
            }
        });
    }

    /// Whether the process has ended and everything that it left was read.
    pub(super) fn is_drained(&self) -> bool {
        self.left == Some(0)
    }

    /// How much may be read now.
    pub(super) fn room(&self, call: &Call) -> usize {
        let wanted = if self.kept.is_some() {
            MAX_PAYLOAD
        } else {
            call.credit(self.channel)
        };
        wanted.min(MAX_PAYLOAD).min(self.left.unwrap_or(usize::MAX))
    }

    /// Reads once, if there is room.
    pub(super) fn pump(&mut self, calls: &Calls, call: &Call, buffer: &mut [u8]) {
        let room = self.room(call).min(buffer.len());
        let Some(fd) = self.fd.as_ref().filter(|_| room > 0) else {
            return;
        };
        let now = Instant::now();
        if self.gathers
            && self.left.is_none()
            && let Some(read) = self.read
            && now < read + GATHER
            && fd::readable_bytes(fd.as_raw_fd()) < MAX_PAYLOAD / 2
        {
            self.gathering = Some(read + GATHER);
            self.read = None;
            return;
        }
        self.read = Some(now);
        match fd::read(fd.as_raw_fd(), &mut buffer[..room]) {
            // A terminal whose other side is closed says EIO.
            Ok(0) | Err(Errno::IO) => self.close(calls, call),
            Ok(got) => {
                if let Some(left) = &mut self.left {
                    *left = left.saturating_sub(got);
                }
                match &mut self.kept {
                    Some(kept) => kept.push(&buffer[..got]),
                    None => calls.data(call, self.channel, &buffer[..got]),
                }
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if self.left.is_none() => {}
            Err(_) => self.close(calls, call),
        }
    }

    pub(super) fn close(&mut self, calls: &Calls, call: &Call) {
        self.fd = None;
        let has_result = |slot: &Slot| slot.get() == SlotState::Done;
        let ends_late = self.ends_late || self.slot.is_some_and(has_result);
        if self.kept.is_none() && !ends_late {
            calls.end(call, self.channel);
        }
    }
}

impl HeadAndTail {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            first: Vec::new(),
            last: VecDeque::new(),
            dropped: 0,
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        let first = bytes
            .len()
            .min((self.limit / 2).saturating_sub(self.first.len()));
        self.first.extend_from_slice(&bytes[..first]);
        self.last.extend(&bytes[first..]);
        let excess = self.last.len().saturating_sub(self.limit - self.limit / 2);
        self.last.drain(..excess);
        self.dropped += excess as u64;
    }

    /// The bytes, and how many between the beginning and the end were dropped.
    pub(super) fn take(self) -> (Vec<u8>, u64) {
        let mut bytes = self.first;
        bytes.extend(self.last);
        (bytes, self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_comes_from_the_middle() {
        let mut kept = HeadAndTail::new(6);
        kept.push(b"ab");
        kept.push(b"cdefg");
        kept.push(b"hi");
        assert_eq!(kept.take(), (b"abcghi".to_vec(), 3));
        let mut all = HeadAndTail::new(6);
        all.push(b"abcdef");
        assert_eq!(all.take(), (b"abcdef".to_vec(), 0));
    }
}
