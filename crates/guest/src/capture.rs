//! A command's output, kept while it comes.
//!
//! A [`Capture`] keeps the first and the last bytes up to a limit and drops the middle. Any number of
//! [`CaptureReader`]s read it from its first byte, each at its own pace; one that is slower
//! than the dropped middle gets the number of bytes it missed. Writing never waits for a reader.

use crate::error::CallError;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Most bytes a reader is given at once.
const PIECE: usize = 64 * 1024;

/// Bytes that are kept as they come.
#[derive(Debug)]
pub struct Capture {
    state: Mutex<State>,
    /// Counts changes; its receivers are woken by each.
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    head: Vec<u8>,
    head_limit: usize,
    tail: VecDeque<u8>,
    tail_limit: usize,
    /// All bytes that ever came.
    total: u64,
    end: Option<Option<CallError>>,
}

/// What had been captured at a moment.
#[derive(Debug, Clone)]
pub(crate) struct CaptureCheckpoint {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    limits: (usize, usize),
    total: u64,
}

/// What was captured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CapturedOutput {
    /// The bytes kept.
    pub bytes: Vec<u8>,
    /// Bytes dropped from the middle.
    pub dropped: u64,
    /// Where in `bytes` they are missing; of no meaning when nothing was dropped.
    pub gap_at: usize,
}

/// What a [`CaptureReader`] is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// The next bytes, at least one.
    Bytes(Vec<u8>),
    /// The number of bytes that were dropped before this reader reached them.
    Dropped(u64),
}

impl Capture {
    /// Keeps `limit` bytes: the first half, and the last.
    pub fn new(limit: usize) -> Arc<Self> {
        let head_limit = limit / 2;
        Arc::new(Self {
            state: Mutex::new(State {
                head: Vec::new(),
                head_limit,
                tail: VecDeque::new(),
                tail_limit: limit - head_limit,
                total: 0,
                end: None,
            }),
            changes: watch::Sender::new(0),
        })
    }

    /// What has been captured, to continue from later.
    pub(crate) fn checkpoint(&self) -> CaptureCheckpoint {
        let state = self.lock();
        CaptureCheckpoint {
            head: state.head.clone(),
            tail: state.tail.clone(),
            limits: (state.head_limit, state.tail_limit),
            total: state.total,
        }
    }

    /// A capture that continues from a checkpoint.
    pub(crate) fn resumed(checkpoint: &CaptureCheckpoint) -> Arc<Self> {
        let (head_limit, tail_limit) = checkpoint.limits;
        Arc::new(Self {
            state: Mutex::new(State {
                head: checkpoint.head.clone(),
                head_limit,
                tail: checkpoint.tail.clone(),
                tail_limit,
                total: checkpoint.total,
                end: None,
            }),
            changes: watch::Sender::new(0),
        })
    }

    /// Reads from the first byte.
    pub fn reader(self: &Arc<Self>) -> CaptureReader {
        CaptureReader {
            changes: self.changes.subscribe(),
            capture: Arc::clone(self),
            at: 0,
        }
    }

    /// What there is now.
    pub fn contents(&self) -> CapturedOutput {
        let state = self.lock();
        let mut bytes = Vec::with_capacity(state.head.len() + state.tail.len());
        bytes.extend_from_slice(&state.head);
        let (front, back) = state.tail.as_slices();
        bytes.extend_from_slice(front);
        bytes.extend_from_slice(back);
        CapturedOutput {
            dropped: state.tail_start() - state.head.len() as u64,
            gap_at: state.head.len(),
            bytes,
        }
    }

    /// All bytes that ever came.
    pub fn total(&self) -> u64 {
        self.lock().total
    }

    /// Whether no more will come.
    pub fn ended(&self) -> bool {
        self.lock().end.is_some()
    }

    pub(crate) fn append(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.lock().append(bytes);
        self.changes
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(crate) fn end(&self, failure: Option<CallError>) {
        self.lock().end.get_or_insert(failure);
        self.changes
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn append(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let (head, rest) = bytes.split_at(bytes.len().min(self.head_limit - self.head.len()));
        self.head.extend_from_slice(head);
        let kept = &rest[rest.len().saturating_sub(self.tail_limit)..];
        let surplus = (self.tail.len() + kept.len()).saturating_sub(self.tail_limit);
        self.tail.drain(..surplus);
        self.tail.extend(kept);
    }

    /// Offset of the tail's first byte, among all that ever came.
    fn tail_start(&self) -> u64 {
        self.total - self.tail.len() as u64
    }

    /// How it ended, for a reader who has come to `at`.
    fn end_after(&self, at: u64) -> Option<Option<CallError>> {
        if at >= self.total {
            self.end.clone()
        } else {
            None
        }
    }

    /// The bytes at offset `at`; `None` if there are none yet.
    fn piece(&self, at: u64) -> Option<Piece> {
        if at >= self.total {
            return None;
        }
        if let Some(rest) = usize::try_from(at).ok().and_then(|at| self.head.get(at..))
            && !rest.is_empty()
        {
            return Some(Piece::Bytes(rest[..rest.len().min(PIECE)].to_vec()));
        }
        let start = self.tail_start();
        if at < start {
            return Some(Piece::Dropped(start - at));
        }
        let from = usize::try_from(at - start).ok()?;
        Some(Piece::Bytes(
            self.tail.iter().skip(from).take(PIECE).copied().collect(),
        ))
    }
}

/// Reads a [`Capture`] from its first byte.
#[derive(Debug)]
pub struct CaptureReader {
    capture: Arc<Capture>,
    changes: watch::Receiver<u64>,
    at: u64,
}

impl CaptureReader {
    /// The next bytes; `None` at the end. Dropping the future loses nothing.
    ///
    /// # Errors
    /// When the channel broke before the command had ended, after everything that came was read.
    pub async fn next(&mut self) -> Result<Option<Piece>, CallError> {
        loop {
            self.changes.borrow_and_update();
            if let Some(piece) = self.try_next() {
                return Ok(Some(piece));
            }
            // Bytes may have come since: the end counts only once all of them were read.
            let end = self.capture.lock().end_after(self.at);
            match end {
                Some(None) => return Ok(None),
                Some(Some(failure)) => return Err(failure),
                None => {}
            }
            // The sender lives in the capture that this holds.
            let _ = self.changes.changed().await;
        }
    }

    /// What is there now.
    pub fn try_next(&mut self) -> Option<Piece> {
        let piece = self.capture.lock().piece(self.at)?;
        self.at += match &piece {
            Piece::Bytes(bytes) => bytes.len() as u64,
            Piece::Dropped(count) => *count,
        };
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_middle_is_dropped_and_counted() {
        let capture = Capture::new(8);
        let mut early = capture.reader();
        capture.append(b"abcdef");
        assert_eq!(early.try_next(), Some(Piece::Bytes(b"abcd".to_vec())));
        capture.append(b"ghijklmn");
        let expected = CapturedOutput {
            bytes: b"abcdklmn".to_vec(),
            dropped: 6,
            gap_at: 4,
        };
        assert_eq!(capture.contents(), expected);
        assert_eq!(early.try_next(), Some(Piece::Dropped(6)));
        assert_eq!(early.try_next(), Some(Piece::Bytes(b"klmn".to_vec())));
        assert_eq!(early.try_next(), None);
        assert_eq!(
            capture.reader().try_next(),
            Some(Piece::Bytes(b"abcd".to_vec()))
        );
    }

    #[tokio::test]
    async fn readers_are_woken_by_bytes_and_by_the_end() {
        let capture = Capture::new(100);
        let mut reader = capture.reader();
        let reading = tokio::spawn(async move {
            let mut all = Vec::new();
            while let Some(Piece::Bytes(bytes)) = reader.next().await.unwrap() {
                all.extend(bytes);
            }
            all
        });
        for piece in ["a", "bc", "d"] {
            tokio::task::yield_now().await;
            capture.append(piece.as_bytes());
        }
        capture.end(None);
        assert_eq!(reading.await.unwrap(), b"abcd");
    }

    proptest! {
        #[test]
        fn head_and_tail_are_what_came(
            limit in 0usize..40,
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 0..10),
        ) {
            let capture = Capture::new(limit);
            let mut all = Vec::new();
            for piece in &pieces {
                capture.append(piece);
                all.extend_from_slice(piece);
            }
            let got = capture.contents();
            prop_assert_eq!(got.bytes.len() as u64 + got.dropped, all.len() as u64);
            prop_assert!(got.bytes.len() <= limit);
            let (head, tail) = got.bytes.split_at(got.gap_at);
            prop_assert!(all.starts_with(head) && all.ends_with(tail));
            let mut reader = capture.reader();
            let mut read = CapturedOutput::default();
            while let Some(piece) = reader.try_next() {
                match piece {
                    Piece::Bytes(bytes) => read.bytes.extend(bytes),
                    Piece::Dropped(count) => read.dropped += count,
                }
            }
            prop_assert_eq!((read.bytes, read.dropped), (got.bytes, got.dropped));
        }
    }
}
