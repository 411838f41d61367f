//! One byte stream from the guest: what has come, what may still come, and where it goes.
//!
//! Pure; the [call state](crate::call_state) wakes its readers. The sum of what is held and what is granted
//! never exceeds [`INITIAL_WINDOW`].

use crate::capture::Capture;
use crate::checkpoint::OutputCheckpoint;
use crate::error::CallError;
use provium_protocol::frame::INITIAL_WINDOW;
use std::collections::VecDeque;
use std::sync::Arc;

/// Credit is granted in pieces of at least this size, bytes.
const GRANT: u32 = INITIAL_WINDOW / 4;
/// Small pieces are joined up to this length, bytes.
const JOINED: usize = 32 * 1024;

/// Where a channel's bytes go.
#[derive(Debug, Clone)]
pub(crate) enum Sink {
    /// They wait for an [`Output`](crate::Output).
    Queue,
    /// They are discarded.
    Discard,
    /// They are kept.
    Capture(Arc<Capture>),
}

/// More came than was granted, or after the end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CreditViolation {
    OverWindow,
    AfterEnd,
}

/// One channel.
#[derive(Debug)]
pub(crate) struct IncomingStream {
    sink: Sink,
    held: VecDeque<Vec<u8>>,
    /// What the guest may still send.
    window: u32,
    /// Taken, with no new credit for it yet.
    pending_grant: u32,
    ended: bool,
    claimed: bool,
}

impl IncomingStream {
    pub(crate) fn new(sink: Sink) -> Self {
        Self {
            sink,
            held: VecDeque::new(),
            window: INITIAL_WINDOW,
            pending_grant: 0,
            ended: false,
            claimed: false,
        }
    }

    /// A stream that continues from a checkpoint.
    pub(crate) fn resumed(checkpoint: OutputCheckpoint) -> Self {
        Self {
            window: checkpoint.window,
            pending_grant: checkpoint.pending_grant,
            ended: checkpoint.ended,
            ..Self::new(Sink::Discard)
        }
    }

    /// The stream for a checkpoint, when `unsent` credit has not been sent. What is held has a reader
    /// here, so in the restored channel it counts as taken.
    pub(crate) fn checkpoint(&self, unsent: u32) -> OutputCheckpoint {
        let held: usize = self.held.iter().map(Vec::len).sum();
        let held = u32::try_from(held).unwrap_or(u32::MAX);
        OutputCheckpoint {
            window: self.window.saturating_sub(unsent),
            pending_grant: self
                .pending_grant
                .saturating_add(unsent)
                .saturating_add(held),
            ended: self.ended,
        }
    }

    /// Grants all credit that is pending, however little; returns it.
    pub(crate) fn grant_all(&mut self) -> u32 {
        if self.ended {
            return 0;
        }
        self.window = self.window.saturating_add(self.pending_grant);
        std::mem::take(&mut self.pending_grant)
    }

    /// Keeps what comes from now on.
    pub(crate) fn capture(&mut self, capture: Arc<Capture>) {
        if self.ended {
            capture.end(None);
        }
        self.sink = Sink::Capture(capture);
    }

    /// Accepts bytes from the guest; returns the credit to grant (0: none yet).
    pub(crate) fn accept(&mut self, bytes: Vec<u8>) -> Result<u32, CreditViolation> {
        if self.ended {
            return Err(CreditViolation::AfterEnd);
        }
        let len = u32::try_from(bytes.len()).map_err(|_| CreditViolation::OverWindow)?;
        self.window = self
            .window
            .checked_sub(len)
            .ok_or(CreditViolation::OverWindow)?;
        match &self.sink {
            Sink::Queue => {
                self.hold(bytes);
                return Ok(0);
            }
            Sink::Discard => {}
            Sink::Capture(capture) => capture.append(&bytes),
        }
        Ok(self.count_taken(len))
    }

    /// The next piece and the credit to grant for it.
    pub(crate) fn take(&mut self) -> Option<(Vec<u8>, u32)> {
        let piece = self.held.pop_front()?;
        // What is held fits the window, which is a u32.
        let grant = self.count_taken(u32::try_from(piece.len()).unwrap_or(u32::MAX));
        Some((piece, grant))
    }

    /// Says that an [`Output`](crate::Output) reads this.
    pub(crate) fn claim(&mut self) {
        self.claimed = true;
    }

    /// Discards what comes from now on, unless the stream has a reader; returns the credit to grant.
    pub(crate) fn discard_unclaimed(&mut self) -> u32 {
        if self.claimed { 0 } else { self.discard() }
    }

    /// Discards what is held and what comes; returns the credit to grant.
    pub(crate) fn discard(&mut self) -> u32 {
        if matches!(self.sink, Sink::Queue) {
            self.sink = Sink::Discard;
        }
        let held: usize = self.held.drain(..).map(|piece| piece.len()).sum();
        self.count_taken(u32::try_from(held).unwrap_or(u32::MAX))
    }

    /// The stream ends; `failure`: not by the guest, but since the session has ended.
    pub(crate) fn end(&mut self, failure: Option<&CallError>) {
        if !self.ended {
            self.ended = true;
            if let Sink::Capture(capture) = &self.sink {
                capture.end(failure.cloned());
            }
        }
    }

    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Keeps a piece. Small ones are joined: a piece takes more memory than its bytes.
    fn hold(&mut self, bytes: Vec<u8>) {
        match self.held.back_mut() {
            Some(last) if last.len() + bytes.len() <= JOINED => last.extend_from_slice(&bytes),
            _ if bytes.is_empty() => {}
            _ => self.held.push_back(bytes),
        }
    }

    fn count_taken(&mut self, taken: u32) -> u32 {
        self.pending_grant = self.pending_grant.saturating_add(taken);
        if self.ended || self.pending_grant < GRANT {
            return 0;
        }
        self.window = self.window.saturating_add(self.pending_grant);
        std::mem::take(&mut self.pending_grant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_window_that_nobody_reads_ends() {
        let mut incoming = IncomingStream::new(Sink::Queue);
        let window = INITIAL_WINDOW as usize;
        assert_eq!(incoming.accept(vec![0; window]), Ok(0));
        assert_eq!(incoming.accept(vec![0]), Err(CreditViolation::OverWindow));
        assert_eq!(
            incoming.take().unwrap().1,
            INITIAL_WINDOW,
            "what is taken is granted again"
        );
        assert_eq!(incoming.accept(vec![0; window]), Ok(0));
        incoming.end(None);
        assert_eq!(incoming.accept(Vec::new()), Err(CreditViolation::AfterEnd));
    }

    #[test]
    fn empty_and_small_pieces_are_joined() {
        let mut incoming = IncomingStream::new(Sink::Queue);
        for _ in 0..1000 {
            incoming.accept(Vec::new()).unwrap();
        }
        assert!(incoming.is_empty());
        for _ in 0..1000 {
            incoming.accept(vec![1]).unwrap();
        }
        assert_eq!(incoming.held.len(), 1);
    }

    #[test]
    fn discarded_bytes_are_granted_again() {
        let mut incoming = IncomingStream::new(Sink::Queue);
        incoming.accept(vec![0; INITIAL_WINDOW as usize]).unwrap();
        assert_eq!(incoming.discard_unclaimed(), INITIAL_WINDOW);
        let mut granted = 0;
        for _ in 0..100 {
            granted += incoming.accept(vec![0; GRANT as usize / 2]).unwrap();
        }
        assert_eq!(granted, GRANT * 50);
    }

    proptest! {
        #[test]
        fn bytes_and_credit_are_conserved(steps in prop::collection::vec((any::<bool>(), 0usize..70_000), 0..60)) {
            let mut incoming = IncomingStream::new(Sink::Queue);
            let (mut sent, mut taken, mut granted) = (0u64, 0u64, u64::from(INITIAL_WINDOW));
            for (send, len) in steps {
                if send {
                    let fits = sent + len as u64 <= granted;
                    prop_assert_eq!(incoming.accept(vec![0; len]).is_ok(), fits);
                    if !fits { break }
                    sent += len as u64;
                } else if let Some((piece, grant)) = incoming.take() {
                    taken += piece.len() as u64;
                    granted += u64::from(grant);
                }
                prop_assert!(granted <= taken + u64::from(INITIAL_WINDOW));
            }
        }
    }
}
