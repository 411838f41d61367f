//! A stream as a test holds it: bounds every wait, and is closed by its scope.

use crate::error::LabError;
use crate::guest::stream::buffer::{Buffer, MOST_KEPT, NoMatch};
use crate::guest::stream::changes::describe;
use crate::guest::stream::open_streams::{OpenStreams, Site};
use crate::guest::stream::search::{FoundBy, Needle, Search, shown, shown_call};
use crate::guest::stream::source::ByteSource;
use crate::resource::{Close, CloseFuture, CloseOrder, Registration, ResourceId, Scope};
use provium_guest::{ChangeList, FileChanges};
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::time::Instant;

/// How many bytes [`ByteStream::expect`] leaves of those that it has passed over without a match.
const LEFT_OVER: usize = 1024 * 1024;

/// What a stream is called in messages about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// A tail: `stream closed`.
    Tail,
    /// A console's: `console closed`.
    Console,
    /// A connection's: `connection closed`.
    Connection,
    /// A capture's: `capture closed`.
    Capture,
}

impl StreamKind {
    pub(crate) fn closed(self) -> &'static str {
        match self {
            Self::Tail => "stream closed",
            Self::Console => "console closed",
            Self::Connection => "connection closed",
            Self::Capture => "capture closed",
        }
    }
}

/// A stream of bytes.
#[derive(Clone)]
pub struct ByteStream(Arc<Inner>);

struct Inner {
    id: ResourceId,
    kind: StreamKind,
    subject: String,
    site: Site,
    buffer: AsyncMutex<Buffer>,
    closed: watch::Sender<bool>,
    /// The source has ended and everything was handed out.
    at_end: Arc<AtomicBool>,
    /// What happens to the file that it reads; `None`: it reads no file.
    changes: Option<FileChanges>,
    open: Arc<OpenStreams>,
    place: Registration,
}

/// What a stream is made of.
pub(crate) struct StreamParts {
    pub(crate) kind: StreamKind,
    pub(crate) subject: String,
    pub(crate) site: Site,
    pub(crate) source: Box<dyn ByteSource>,
    /// The VM's open streams.
    pub(crate) open: Arc<OpenStreams>,
}

impl ByteStream {
    /// A stream in `scope`'s care.
    pub(crate) fn open(scope: &Scope, parts: StreamParts) -> Self {
        let id = ResourceId::next();
        let at_end = Arc::<AtomicBool>::default();
        match parts.kind {
            StreamKind::Console => {
                let at_end = Arc::clone(&at_end);
                let open = &parts.open;
                open.add_of_host(id, &parts.subject, &parts.site, at_end);
            }
            StreamKind::Tail => {
                let at_end = Arc::clone(&at_end);
                let open = &parts.open;
                open.add_until_end(id, &parts.subject, &parts.site, at_end);
            }
            // A connection whose peer sends no more may still be written to.
            StreamKind::Connection | StreamKind::Capture => {
                parts.open.add(id, &parts.subject, &parts.site);
            }
        }
        let changes = parts.source.changes();
        let inner = Arc::new(Inner {
            id,
            kind: parts.kind,
            subject: parts.subject,
            site: parts.site,
            buffer: AsyncMutex::new(Buffer::new(parts.source, Arc::clone(&at_end))),
            closed: watch::Sender::new(false),
            at_end,
            changes,
            open: parts.open,
            place: Registration::default(),
        });
        inner.place.take(
            scope,
            (CloseOrder::Stream, id),
            Arc::clone(&inner) as Arc<dyn Close>,
        );
        Self(inner)
    }

    /// Its number.
    pub fn id(&self) -> ResourceId {
        self.0.id
    }

    /// What it is called in messages.
    pub fn kind(&self) -> StreamKind {
        self.0.kind
    }

    /// What it reads: ``stdout of process 3 of vm `web` ``.
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// Where it was made.
    pub fn site(&self) -> &Site {
        &self.0.site
    }

    /// Whether everything was handed out and nothing more will come. Nothing comes from a closed stream.
    pub fn eof(&self) -> bool {
        // The source may have ended since it was last read. A task that reads the stream notices that itself.
        if let Ok(mut buffer) = self.0.buffer.try_lock() {
            buffer.take_ready(1);
        }
        self.0.at_end.load(Ordering::Acquire) || self.is_closed()
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        *self.0.closed.borrow()
    }

    /// Bytes that have come, at least one; `None` at the end, on timeout and when closed.
    pub async fn next(&self, timeout: Duration) -> Result<Option<Vec<u8>>, LabError> {
        let deadline = Instant::now() + timeout;
        let read = async {
            let next = self.0.buffer.lock().await.next().await?;
            Ok((!next.is_empty()).then_some(next))
        };
        match self.bounded(deadline, read).await {
            BoundedWait::Done(result) => result,
            BoundedWait::TimedOut | BoundedWait::Closed => Ok(None),
        }
    }

    /// Everything up to and with `needle`. What follows it is kept.
    ///
    /// # Errors
    /// At the end of the stream, when the time is up, and when 64 MiB have come without a match. What
    /// came is kept for the next call.
    pub async fn read_until(&self, needle: &[u8], timeout: Duration) -> Result<Vec<u8>, LabError> {
        self.wait("read_until", Needle::new(needle), MOST_KEPT, timeout)
            .await
    }

    /// As [`ByteStream::read_until`], without what comes before and with `needle`. However much that is, only
    /// a little is held; if `needle` does not come, the last 1 MiB are kept for the next call.
    pub async fn expect(&self, needle: &[u8], timeout: Duration) -> Result<(), LabError> {
        let needle = Needle::new(needle);
        let left = LEFT_OVER.max(2 * needle.text.len());
        self.wait("expect", needle, left, timeout).await.map(drop)
    }

    /// Everything up to where `found` says, when it says so. It is asked with all that is kept, each time
    /// bytes have come, and whether no more are there at the moment.
    ///
    /// # Errors
    /// As [`ByteStream::read_until`].
    pub async fn wait_match(
        &self,
        call: &str,
        text: &[u8],
        timeout: Duration,
        found: impl FnMut(&[u8], bool) -> Option<usize> + Send,
    ) -> Result<Vec<u8>, LabError> {
        self.wait(call, FoundBy { text, found }, MOST_KEPT, timeout)
            .await
    }

    /// Takes in what comes for `time`, or until `size` bytes are kept. At the stream's end, or on a
    /// failure, the rest of the time passes; the next call reports it.
    pub async fn gather(&self, size: usize, time: Duration) {
        let gathered = async {
            let mut buffer = self.0.buffer.lock().await;
            while buffer.len() < size.min(MOST_KEPT) {
                if !matches!(buffer.fill().await, Ok(true)) {
                    drop(buffer);
                    return std::future::pending().await;
                }
            }
        };
        // The next call reports that the stream is closed, too.
        let _ = self.bounded(Instant::now() + time, gathered).await;
    }

    async fn wait(
        &self,
        call: &str,
        mut search: impl Search,
        most: usize,
        timeout: Duration,
    ) -> Result<Vec<u8>, LabError> {
        let deadline = Instant::now() + timeout;
        let what = shown(search.text());
        let shown = shown_call(call, search.text());
        let read = async {
            let mut buffer = self.0.buffer.lock().await;
            let missing = match buffer.find(&mut search, most).await {
                Ok(matched) => return Ok(matched),
                Err(NoMatch::Failed(error)) => return Err(error),
                Err(NoMatch::End) => format!("stream EOF before `{what}`"),
                Err(NoMatch::TooMuch) => format!(
                    "{} MiB arrived without `{what}`, and no more are kept; read them with `next`, or use \
                     `expect`",
                    MOST_KEPT >> 20
                ),
            };
            let why = missing + &self.changes_so_far() + &buffer.last_seen();
            Err(LabError::invalid(self.subject(), &shown, why))
        };
        match self.bounded(deadline, read).await {
            BoundedWait::Done(result) => result,
            BoundedWait::Closed => {
                Err(LabError::gone(self.subject(), &shown, self.0.kind.closed()))
            }
            BoundedWait::TimedOut => {
                let seen = match self.0.buffer.try_lock() {
                    // What was there when the time was up is searched, so that a time of 0 finds it.
                    Ok(mut buffer) => match buffer.find_ready(&mut search, most) {
                        Some(matched) => return Ok(matched),
                        None => buffer.last_seen(),
                    },
                    Err(_) => "; another task was reading this stream all the time, and tasks \
                               take turns"
                        .to_owned(),
                };
                let seen = self.changes_so_far() + &seen;
                // `expect` is `read_until` without its result, and has the same message.
                let call = if call == "expect" { "read_until" } else { call };
                let why = format!("{call} timed out waiting for `{what}`{seen}");
                Err(LabError::invalid(self.subject(), &shown, why))
            }
        }
    }

    /// What has happened to the file that it reads, beside that it grew, as far as the guest has reported it.
    pub fn changes(&self) -> ChangeList {
        let Some(changes) = &self.0.changes else {
            return ChangeList::default();
        };
        // A task that reads the stream takes the reports, too.
        if let Ok(mut buffer) = self.0.buffer.try_lock() {
            buffer.take_ready(LEFT_OVER);
        }
        changes.list()
    }

    fn changes_so_far(&self) -> String {
        let changes = self.0.changes.as_ref().map(FileChanges::list);
        changes.map_or_else(String::new, |changes| describe(&changes))
    }

    /// All pieces that come until none has come for `quiet`.
    ///
    /// # Errors
    /// When 64 MiB have come and the stream is still not quiet; they are dropped then.
    pub async fn drain(&self, quiet: Duration) -> Result<Vec<Vec<u8>>, LabError> {
        let (mut pieces, mut total) = (Vec::new(), 0);
        while let Some(piece) = self.next(quiet).await? {
            total += piece.len();
            if total > MOST_KEPT {
                let why = format!(
                    "{} MiB arrived and the stream is still not quiet; read it with `next` or `expect`",
                    MOST_KEPT >> 20
                );
                return Err(LabError::invalid(self.subject(), "drain()", why));
            }
            pieces.push(piece);
        }
        if self.is_closed() {
            let why = self.0.kind.closed();
            return Err(LabError::gone(self.subject(), "drain()", why));
        }
        Ok(pieces)
    }

    pub(crate) fn downgrade(&self) -> WeakStream {
        WeakStream(Arc::downgrade(&self.0))
    }

    /// Stops reading. Closed already is fine.
    pub async fn close(&self) -> Result<(), LabError> {
        self.end().await;
        Ok(())
    }

    pub(crate) async fn end(&self) {
        self.0.close_now().await;
    }

    /// It no longer reads anything of a guest, so no snapshot has to wait for its end.
    pub(crate) fn leave_guest(&self) {
        self.0.open.remove(self.0.id);
    }

    async fn bounded<T>(&self, deadline: Instant, work: impl Future<Output = T>) -> BoundedWait<T> {
        let mut closed = self.0.closed.subscribe();
        if *closed.borrow() {
            return BoundedWait::Closed;
        }
        tokio::select! {
            // A source that is closed ends as well, and that is not the end of what it reads.
            biased;
            _ = closed.wait_for(|closed| *closed) => BoundedWait::Closed,
            done = work => BoundedWait::Done(done),
            () = tokio::time::sleep_until(deadline) => BoundedWait::TimedOut,
        }
    }
}

/// A stream that is not kept open.
#[derive(Debug)]
pub(crate) struct WeakStream(Weak<Inner>);

impl WeakStream {
    /// The stream, if a handle or its scope still exists.
    pub(crate) fn upgrade(&self) -> Option<ByteStream> {
        self.0.upgrade().map(ByteStream)
    }
}

enum BoundedWait<T> {
    Done(T),
    Closed,
    TimedOut,
}

impl Inner {
    async fn close_now(&self) {
        if self.closed.send_replace(true) {
            return;
        }
        self.place.leave();
        self.open.remove(self.id);
        // A reader has been notified and releases the lock at once.
        self.buffer.lock().await.close();
    }
}

impl Close for Inner {
    fn subject(&self) -> String {
        format!("{} made at {}", self.subject, self.site)
    }

    fn close(&self) -> CloseFuture<'_> {
        Box::pin(async {
            self.close_now().await;
            Ok(())
        })
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.subject)
    }
}

impl fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ByteStream").field(&self.0.subject).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::stream::source::ReadFuture;
    use tokio::sync::mpsc;

    struct Pieces(mpsc::UnboundedReceiver<&'static str>);

    impl ByteSource for Pieces {
        fn read(&mut self) -> ReadFuture<'_> {
            Box::pin(async { Ok(self.0.recv().await.map(|text| text.as_bytes().to_vec())) })
        }
    }

    fn stream() -> (mpsc::UnboundedSender<&'static str>, ByteStream, Scope) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let scope = Scope::file("f");
        let parts = StreamParts {
            kind: StreamKind::Tail,
            subject: "tail".to_owned(),
            site: Site {
                file: "a.test.lua".to_owned(),
                line: 3,
            },
            source: Box::new(Pieces(receiver)),
            open: Arc::default(),
        };
        (sender, ByteStream::open(&scope, parts), scope)
    }

    const SOON: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_follows_a_match_is_kept() {
        let (sender, stream, _scope) = stream();
        for piece in ["one t", "wo thr", "ee"] {
            sender.send(piece).unwrap();
        }
        assert_eq!(stream.read_until(b"two", SOON).await.unwrap(), b"one two");
        assert_eq!(stream.next(SOON).await.unwrap().unwrap(), b" thr");
        assert_eq!(stream.next(SOON).await.unwrap().unwrap(), b"ee");
        assert_eq!(stream.next(SOON).await.unwrap(), None, "timeout");
        assert!(!stream.eof());
        sender.send("last").unwrap();
        drop(sender);
        assert!(!stream.eof(), "not everything was read");
        assert_eq!(stream.next(SOON).await.unwrap().unwrap(), b"last");
        assert!(stream.eof(), "without another read");
        assert_eq!(stream.next(SOON).await.unwrap(), None, "end");
        assert!(stream.eof());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_show_what_was_seen() {
        let (sender, stream, _scope) = stream();
        sender.send("hello").unwrap();
        let late = stream
            .read_until(b"bye", SOON)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            late.contains("read_until timed out waiting for `bye`\nlast seen:\nhello"),
            "{late}"
        );
        drop(sender);
        let over = stream
            .read_until(b"bye", SOON)
            .await
            .unwrap_err()
            .to_string();
        assert!(over.contains("stream EOF"), "{over}");
        assert_eq!(
            stream.next(SOON).await.unwrap().unwrap(),
            b"hello",
            "nothing was lost"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn closing_ends_waits_and_leaves_the_scope() {
        let (_sender, stream, scope) = stream();
        let (next, ()) = tokio::join!(stream.next(Duration::from_secs(60)), async {
            stream.close().await.unwrap();
        });
        assert_eq!(next.unwrap(), None);
        assert!(scope.is_empty());
        let after = stream.read_until(b"x", SOON).await.unwrap_err().to_string();
        assert!(after.contains("stream closed"), "{after}");
        stream.close().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_take_turns_and_one_that_never_had_its_turn_says_so() {
        let (sender, stream, _scope) = stream();
        let first = stream.read_until(b"first", 2 * SOON);
        let second = async {
            tokio::task::yield_now().await;
            stream.read_until(b"second", SOON).await
        };
        let send = async {
            tokio::time::sleep(SOON * 3 / 2).await;
            sender.send("second first third").unwrap();
        };
        let (first, second, ()) = tokio::join!(first, second, send);
        assert_eq!(first.unwrap(), b"second first");
        let second = second.unwrap_err().to_string();
        assert!(second.contains("another task was reading"), "{second}");
        assert_eq!(stream.read_until(b"third", SOON).await.unwrap(), b" third");
    }

    #[tokio::test(start_paused = true)]
    async fn cancelled_waits_lose_their_place_in_the_queue_and_no_byte() {
        let (sender, stream, _scope) = stream();
        let cancelled = tokio::time::timeout(SOON / 2, stream.read_until(b"z", SOON)).await;
        assert!(cancelled.is_err());
        sender.send("ab").unwrap();
        let cancelled = tokio::time::timeout(SOON / 2, stream.expect(b"z", SOON)).await;
        assert!(cancelled.is_err());
        sender.send("cd").unwrap();
        assert_eq!(stream.read_until(b"d", SOON).await.unwrap(), b"abcd");
    }

    #[tokio::test(start_paused = true)]
    async fn long_texts_are_shown_in_part() {
        let (_sender, stream, _scope) = stream();
        let error = stream.read_until(&[b'x'; 5000], SOON).await.unwrap_err();
        let error = error.to_string();
        assert!(error.contains("x… (5000 bytes)"), "{error}");
        assert!(error.len() < 1000, "{}", error.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_of_zero_takes_what_is_there() {
        let (sender, stream, _scope) = stream();
        let now = Duration::ZERO;
        assert_eq!(stream.next(now).await.unwrap(), None);
        for piece in ["a", "b", "c"] {
            sender.send(piece).unwrap();
        }
        assert_eq!(stream.next(now).await.unwrap().unwrap(), b"a");
        assert_eq!(stream.drain(now).await.unwrap(), [b"b", b"c"]);
        sender.send("d").unwrap();
        assert_eq!(stream.read_until(b"d", now).await.unwrap(), b"d");
    }

    /// As many pieces of 64 KiB, then the end.
    struct Zeros(usize);

    impl ByteSource for Zeros {
        fn read(&mut self) -> ReadFuture<'_> {
            Box::pin(async {
                let more = self.0 > 0;
                self.0 = self.0.saturating_sub(1);
                Ok(more.then(|| vec![0; 64 * 1024]))
            })
        }
    }

    fn zeros(pieces: usize) -> (ByteStream, Scope) {
        let (_, stream, scope) = stream();
        let source = Box::new(Zeros(pieces));
        stream.0.buffer.try_lock().unwrap().set_source(source);
        (stream, scope)
    }

    #[tokio::test(start_paused = true)]
    async fn expect_holds_little_of_what_it_passes_over() {
        // More than is ever kept, and without end as far as the stream knows.
        let (stream, _scope) = zeros(2 * MOST_KEPT / (64 * 1024));
        let over = stream.expect(b"x", SOON).await.unwrap_err().to_string();
        assert!(over.contains("stream EOF"), "{over}");
        let held = stream.0.buffer.lock().await.capacity();
        assert!(held <= 4 * LEFT_OVER, "{held}");
        let left = stream.next(SOON).await.unwrap().unwrap().len();
        assert!((LEFT_OVER..=2 * LEFT_OVER).contains(&left), "{left}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_text_is_found_where_it_straddles_what_was_dropped() {
        let (sender, stream, _scope) = stream();
        let much: &'static str = Box::leak("-".repeat(3 * LEFT_OVER - 1).into_boxed_str());
        for piece in [much, "ne", "edle", "after"] {
            sender.send(piece).unwrap();
        }
        stream.expect(b"needle", SOON).await.unwrap();
        assert_eq!(stream.next(SOON).await.unwrap().unwrap(), b"after");
    }

    #[tokio::test(start_paused = true)]
    async fn what_returns_all_it_passes_over_has_a_limit() {
        for call in ["read_until", "drain", "expect_match"] {
            let (stream, _scope) = zeros(usize::MAX);
            let error = match call {
                "read_until" => stream.read_until(b"x", SOON).await.unwrap_err(),
                "drain" => stream.drain(SOON).await.unwrap_err(),
                _ => {
                    let never = stream.wait_match(call, b"x", SOON, |_, _| None).await;
                    never.unwrap_err()
                }
            };
            assert!(error.to_string().contains("64 MiB"), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_search_is_notified_when_no_more_has_arrived() {
        let (sender, stream, _scope) = stream();
        for piece in ["a", "b"] {
            sender.send(piece).unwrap();
        }
        let mut asked = Vec::new();
        let found = stream.wait_match("expect_match", b"c", SOON, |bytes, quiet| {
            asked.push((String::from_utf8_lossy(bytes).into_owned(), quiet));
            let late = asked.len() == 4;
            if late {
                sender.send("c").unwrap();
            }
            bytes.ends_with(b"c").then_some(bytes.len())
        });
        assert_eq!(found.await.unwrap(), b"abc");
        let expected = [
            ("", false),
            ("a", false),
            ("ab", false),
            ("ab", true),
            ("abc", false),
        ];
        assert_eq!(
            asked,
            expected.map(|(text, quiet)| (text.to_owned(), quiet))
        );
    }
}
