//! The bytes that a stream has read and not handed out, and the wait for a match in them.
//!
//! What follows a match is kept for the next call. What a call keeps while it waits is bounded, since a guest
//! can write without end: a call that returns what it passes over fails at a limit, and one that does not keeps
//! the last of it only.

use crate::error::LabError;
use crate::guest::describe::readable;
use crate::guest::stream::search::Search;
use crate::guest::stream::source::ByteSource;
use futures_util::FutureExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How much of what was seen is shown when a match does not come, bytes.
const SHOWN_ON_FAILURE: usize = 512;

/// Most bytes that a call keeps while it waits for a match, or gathers.
pub(super) const MOST_KEPT: usize = 64 * 1024 * 1024;

/// What a stream has read and not handed out, and the source that it reads.
pub(super) struct Buffer {
    /// `None`: it has ended, or the stream is closed.
    source: Option<Box<dyn ByteSource>>,
    /// Why the source failed. Each later read fails with it again, since it is not an end of the stream.
    failure: Option<LabError>,
    /// An error that has come and that the next read reports, once.
    pending: Option<LabError>,
    kept: Vec<u8>,
    /// The last bytes read, whether or not they were handed out.
    seen: Vec<u8>,
    /// Whether the source has ended and everything was handed out. Also read without the buffer's lock.
    at_end: Arc<AtomicBool>,
}

/// Why a match did not come.
pub(super) enum NoMatch {
    /// [`MOST_KEPT`] bytes came without it.
    TooMuch,
    /// The source ended.
    End,
    /// The source failed.
    Failed(LabError),
}

impl Buffer {
    pub(super) fn new(source: Box<dyn ByteSource>, at_end: Arc<AtomicBool>) -> Self {
        Self {
            source: Some(source),
            failure: None,
            pending: None,
            kept: Vec::new(),
            seen: Vec::new(),
            at_end,
        }
    }

    /// The number of bytes that were read and not handed out.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Hands out all bytes, those that the source has at least; none at its end.
    pub(super) async fn next(&mut self) -> Result<Vec<u8>, LabError> {
        if self.kept.is_empty() {
            self.fill().await?;
        }
        let kept = std::mem::take(&mut self.kept);
        self.note_end();
        Ok(kept)
    }

    /// Reads the source once; false at its end.
    pub(super) async fn fill(&mut self) -> Result<bool, LabError> {
        if let Some(pending) = self.pending.take() {
            return Err(pending);
        }
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let Some(source) = self.source.as_mut() else {
            return Ok(false);
        };
        let read = source.read().await.inspect_err(|error| {
            if error.is_final() {
                self.failure = Some(error.clone());
            }
        });
        match read? {
            Some(bytes) => {
                self.seen.extend_from_slice(&bytes);
                let surplus = self.seen.len().saturating_sub(SHOWN_ON_FAILURE);
                self.seen.drain(..surplus);
                self.kept.extend_from_slice(&bytes);
                Ok(true)
            }
            None => {
                self.source = None;
                self.note_end();
                Ok(false)
            }
        }
    }

    /// Reads what the source has at the moment, up to `most` unread bytes. An error is kept for the next read.
    pub(super) fn take_ready(&mut self, most: usize) {
        while self.kept.len() < most {
            match self.fill().now_or_never() {
                Some(Ok(true)) => {}
                Some(Err(error)) => {
                    if self.failure.is_none() {
                        self.pending = Some(error);
                    }
                    return;
                }
                Some(Ok(false)) | None => return,
            }
        }
    }

    /// Hands out everything up to the end of the match. While it waits, the last `most` bytes are kept, at
    /// least; with [`MOST_KEPT`] all are, and no more than that may come. Dropping the future loses no byte.
    pub(super) async fn find(
        &mut self,
        search: &mut impl Search,
        most: usize,
    ) -> Result<Vec<u8>, NoMatch> {
        let mut quiet = false;
        loop {
            if let Some(end) = search.find(&self.kept, quiet) {
                let rest = self.kept.split_off(end);
                let matched = std::mem::replace(&mut self.kept, rest);
                self.note_end();
                return Ok(matched);
            }
            if self.kept.len() >= most.saturating_mul(2) || self.kept.len() >= MOST_KEPT {
                if most == MOST_KEPT {
                    return Err(NoMatch::TooMuch);
                }
                let surplus = self.kept.len() - most;
                self.kept.drain(..surplus);
                search.dropped(surplus);
            }
            // What is there is taken at once; the search sees it before more is waited for.
            let filled = match self.fill().now_or_never() {
                None if quiet => self.fill().await,
                None => {
                    quiet = true;
                    continue;
                }
                Some(filled) => {
                    tokio::task::yield_now().await;
                    filled
                }
            };
            match filled.map_err(NoMatch::Failed)? {
                true => quiet = false,
                false if quiet => return Err(NoMatch::End),
                false => quiet = true,
            }
        }
    }

    /// As [`Buffer::find`], in what the source has at the moment.
    pub(super) fn find_ready(&mut self, search: &mut impl Search, most: usize) -> Option<Vec<u8>> {
        self.take_ready(most.saturating_mul(2).min(MOST_KEPT));
        let end = search.find(&self.kept, true)?;
        let rest = self.kept.split_off(end);
        let matched = std::mem::replace(&mut self.kept, rest);
        self.note_end();
        Some(matched)
    }

    /// The last bytes read, for the error of a match that did not come.
    pub(super) fn last_seen(&self) -> String {
        if self.seen.is_empty() {
            return nothing_seen();
        }
        format!("\nlast seen:\n{}", readable(&self.seen))
    }

    /// Drops the source and all bytes.
    pub(super) fn close(&mut self) {
        self.source = None;
        self.kept = Vec::new();
    }

    fn note_end(&self) {
        let has_ended = self.source.is_none() && self.kept.is_empty();
        self.at_end.store(has_ended, Ordering::Release);
    }
}

/// As [`Buffer::last_seen`], of a buffer that has read nothing.
fn nothing_seen() -> String {
    "; nothing was seen".to_owned()
}

#[cfg(test)]
impl Buffer {
    pub(super) fn set_source(&mut self, source: Box<dyn ByteSource>) {
        self.source = Some(source);
    }

    pub(super) fn capacity(&self) -> usize {
        self.kept.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::stream::search::Needle;
    use crate::guest::stream::source::ReadFuture;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    /// An error that is not final, then the end.
    struct Gap(bool);

    impl ByteSource for Gap {
        fn read(&mut self) -> ReadFuture<'_> {
            Box::pin(async {
                match std::mem::replace(&mut self.0, true) {
                    false => Err(LabError::invalid("stream", "read()", "5 bytes were lost")),
                    true => Ok(None),
                }
            })
        }
    }

    #[test]
    fn an_error_that_was_read_ahead_is_reported_once() {
        let at_end = Arc::<AtomicBool>::default();
        let mut buffer = Buffer::new(Box::new(Gap(false)), Arc::clone(&at_end));
        for _ in 0..2 {
            buffer.take_ready(1);
            assert!(!at_end.load(Ordering::Acquire), "the error comes first");
        }
        run(buffer.next()).unwrap_err();
        buffer.take_ready(1);
        assert!(at_end.load(Ordering::Acquire));
        assert!(run(buffer.next()).unwrap().is_empty());
    }

    /// These pieces, then the end.
    struct Pieces(VecDeque<Vec<u8>>);

    impl ByteSource for Pieces {
        fn read(&mut self) -> ReadFuture<'_> {
            Box::pin(async { Ok(self.0.pop_front()) })
        }
    }

    fn run<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(work)
    }

    fn buffer(pieces: &[Vec<u8>]) -> (Buffer, Arc<AtomicBool>) {
        let at_end = Arc::<AtomicBool>::default();
        let source = Pieces(pieces.iter().cloned().collect());
        (Buffer::new(Box::new(source), Arc::clone(&at_end)), at_end)
    }

    fn end_of_first(text: &[u8], needle: &[u8]) -> Option<usize> {
        memchr::memmem::find(text, needle).map(|at| at + needle.len())
    }

    /// Pieces and a needle of so few letters that the needle often straddles pieces, and nearly matches.
    fn text() -> impl Strategy<Value = (Vec<Vec<u8>>, Vec<u8>)> {
        let letter = || prop::sample::select(vec![b'a', b'b']);
        let piece = prop::collection::vec(letter(), 1..6);
        (
            prop::collection::vec(piece, 0..20),
            prop::collection::vec(letter(), 1..5),
        )
    }

    proptest! {
        #[test]
        fn matches_and_rest_are_the_bytes_of_the_source((pieces, needle) in text()) {
            let all = pieces.concat();
            let (mut buffer, at_end) = buffer(&pieces);
            let mut rest = &all[..];
            while let Some(end) = end_of_first(rest, &needle) {
                let found = run(buffer.find(&mut Needle::new(&needle), MOST_KEPT));
                prop_assert_eq!(found.ok(), Some(rest[..end].to_vec()));
                rest = &rest[end..];
            }
            let missing = run(buffer.find(&mut Needle::new(&needle), MOST_KEPT));
            prop_assert!(matches!(missing, Err(NoMatch::End)));
            prop_assert_eq!(at_end.load(Ordering::Acquire), rest.is_empty());
            let mut left = Vec::new();
            loop {
                let piece = run(buffer.next()).unwrap();
                if piece.is_empty() {
                    break;
                }
                left.extend(piece);
            }
            prop_assert_eq!(left, rest);
            prop_assert!(at_end.load(Ordering::Acquire));
        }

        #[test]
        fn a_search_that_keeps_little_finds_the_same((pieces, needle) in text(), most in 8usize..12) {
            let all = pieces.concat();
            let (mut buffer, _) = buffer(&pieces);
            let mut at = 0;
            while let Some(end) = end_of_first(&all[at..], &needle) {
                prop_assert!(run(buffer.find(&mut Needle::new(&needle), most)).is_ok());
                at += end;
                prop_assert!(buffer.len() <= 2 * most + 6);
            }
            let missing = run(buffer.find(&mut Needle::new(&needle), most));
            prop_assert!(matches!(missing, Err(NoMatch::End)));
            // What follows the last match is kept, or the last of it.
            let kept = run(buffer.next()).unwrap();
            prop_assert!(all[at..].ends_with(&kept));
            prop_assert!(kept.len() >= (all.len() - at).min(most));
        }
    }
}
