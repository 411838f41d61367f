//! A guest's console: every byte since its first boot, and a way to type into it.
//!
//! The log lives in the harness, not in the guest: it is there before the boot, after a reset, and
//! when the guest is off or dead. What waits for a text looks at what the guest has printed since its last
//! boot or reset, so that it waits for the new boot's text and does not find the old one's.

use crate::error::{LabError, chain};
use crate::guest::stream::{
    ByteSource, ByteStream, OpenStreams, ReadFuture, Site, StreamKind, StreamParts, shown,
    shown_call,
};
use crate::lock::lock;
use crate::resource::Scope;
use provium_events::printable::text_of;
use provium_vmm::{ConsoleError, ConsoleLog as Log};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// How much of the log is searched at a time, bytes.
const WINDOW: usize = 256 * 1024;

/// What a kernel puts before the reason of its panic.
const PANIC: &[u8] = b"Kernel panic - not syncing: ";

/// How much of the log is shown when a text does not come, bytes.
const SHOWN: usize = 512;

/// The most texts that a message lists.
const LISTED: usize = 10;

/// The texts that were waited for, in a message.
fn any_of(texts: &[&[u8]]) -> String {
    let listed = texts
        .iter()
        .take(LISTED)
        .map(|text| format!("`{}`", shown(text)));
    let mut list = listed.collect::<Vec<_>>().join(" or ");
    if texts.len() > LISTED {
        list.push_str(&format!(" or one of {} more", texts.len() - LISTED));
    }
    list
}

/// The call of [`Console::never`] in messages.
pub(crate) fn never_call(text: &[u8]) -> String {
    shown_call("never", text)
}

/// The call of a wait for one text in messages.
pub(crate) fn expect_call(text: &[u8]) -> String {
    shown_call("expect", text)
}

/// The call of a wait for one of several texts in messages.
pub(crate) fn expect_any_call(texts: &[&[u8]]) -> String {
    format!("expect_any({})", any_of(texts))
}

/// The console of a VM.
#[derive(Clone)]
pub struct Console {
    vm: Arc<str>,
    log: Log,
    /// Where the log of the last boot or reset begins.
    boot: Arc<AtomicU64>,
    /// Up to here, the kernel's reports fail no test.
    ignored: Arc<AtomicU64>,
    open_streams: Arc<OpenStreams>,
    /// The streams of [`Console::stream`].
    given: Arc<Mutex<Vec<ByteStream>>>,
}

impl Console {
    pub(crate) fn of_vm(name: &str, open_streams: Arc<OpenStreams>) -> Self {
        Self {
            vm: name.into(),
            log: Log::new(),
            boot: Arc::default(),
            ignored: Arc::default(),
            open_streams,
            given: Arc::default(),
        }
    }

    /// A console of its own that begins with all that this one has.
    pub(crate) fn copy(&self, open_streams: Arc<OpenStreams>) -> Result<Self, LabError> {
        let copy = self.log.copy();
        Ok(Self {
            vm: Arc::clone(&self.vm),
            log: copy.map_err(|error| LabError::host(self.subject(), "copy", error))?,
            boot: Arc::new(AtomicU64::new(self.boot_start())),
            ignored: Arc::new(AtomicU64::new(self.ignored_reports())),
            open_streams,
            given: Arc::default(),
        })
    }

    pub(crate) fn log(&self) -> Log {
        self.log.clone()
    }

    /// Its name in messages.
    pub fn subject(&self) -> String {
        format!("console of vm `{}`", self.vm)
    }

    /// The guest boots, or was reset: what it prints from now on is the new boot's.
    pub(crate) fn begin_boot(&self) {
        self.boot.store(self.mark(), Ordering::Release);
    }

    /// What the kernel has reported so far fails no test: the error of a boot has it, or the boot is discarded.
    pub(crate) fn ignore_reports(&self) {
        self.settle();
        self.ignored.store(self.mark(), Ordering::Release);
    }

    /// Up to which position the kernel's reports fail no test.
    pub fn ignored_reports(&self) -> u64 {
        self.ignored.load(Ordering::Acquire)
    }

    fn boot_start(&self) -> u64 {
        self.boot.load(Ordering::Acquire)
    }

    /// A stream of everything so far and of what comes from now on.
    pub fn stream(&self, scope: &Scope, site: Site) -> ByteStream {
        let source = Box::new(LogSource {
            log: self.log.clone(),
            at: 0,
        });
        let open = Arc::clone(&self.open_streams);
        let (kind, subject) = (StreamKind::Console, self.subject());
        let stream = ByteStream::open(
            scope,
            StreamParts {
                kind,
                subject,
                site,
                source,
                open,
            },
        );
        let mut given = lock(&self.given);
        given.retain(|stream| !stream.is_closed());
        given.push(stream.clone());
        stream
    }

    /// Closes the streams that it gave out; the log is the VM's.
    pub async fn close(&self) -> Result<(), LabError> {
        let given = std::mem::take(&mut *lock(&self.given));
        for stream in given {
            stream.close().await?;
        }
        Ok(())
    }

    /// Everything so far.
    pub fn read_log(&self) -> Result<Vec<u8>, LabError> {
        self.since(0)
    }

    /// How many bytes there are: a position for [`Console::since`].
    pub fn mark(&self) -> u64 {
        self.log.len()
    }

    /// What was printed after `mark`.
    ///
    /// # Errors
    /// Also when bytes were lost, because the host had no room for them.
    pub fn since(&self, mark: u64) -> Result<Vec<u8>, LabError> {
        self.log
            .check_complete()
            .map_err(|error| self.unreadable(error))?;
        self.there_since(mark, usize::MAX)
    }

    /// Up to `most` bytes of what was printed after `mark` and was not lost.
    fn there_since(&self, mark: u64, most: usize) -> Result<Vec<u8>, LabError> {
        self.log
            .read_at_most(mark, most)
            .map_err(|error| self.unreadable(error))
    }

    fn unreadable(&self, error: ConsoleError) -> LabError {
        LabError::host(self.subject(), "read_log()", error)
    }

    /// The last bytes, from the start of a line if one starts there, as text.
    pub(crate) fn tail(&self, bytes: usize) -> String {
        self.tail_since(0, bytes)
    }

    /// The same of what was printed after `mark`.
    fn tail_since(&self, mark: u64, bytes: usize) -> String {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let from = self.mark().saturating_sub(bytes).max(mark);
        let tail = self.there_since(from, usize::MAX).unwrap_or_default();
        let text = text_of(&tail);
        match text.split_once('\n') {
            Some((_, rest)) if from > mark && !rest.is_empty() => rest.to_owned(),
            _ => text,
        }
    }

    /// The reason that the guest's kernel printed for its panic, if it has panicked.
    pub(crate) fn panic_reason(&self) -> Option<String> {
        let log = self.there_since(self.boot_start(), usize::MAX).ok()?;
        let start = memchr::memmem::rfind(&log, PANIC)? + PANIC.len();
        let line = log[start..].split(|byte| *byte == b'\n').next()?;
        let reason = text_of(line).trim().to_owned();
        (!reason.is_empty()).then_some(reason)
    }

    /// How often the text is in the log.
    pub fn count(&self, text: &[u8]) -> Result<usize, LabError> {
        Ok(memchr::memmem::find_iter(&self.read_log()?, text).count())
    }

    /// Waits until one of the texts is anywhere in the log of the last boot or reset; its index. `None`: the machine
    /// is gone, and has printed none of them. Consumes nothing. A reset meanwhile begins the search again.
    pub(crate) async fn wait_for_any(
        &self,
        call: &str,
        texts: &[&[u8]],
        timeout: Duration,
    ) -> Result<Option<usize>, LabError> {
        let deadline = Instant::now() + timeout;
        let longest = texts.iter().map(|text| text.len()).max().unwrap_or(0);
        // Each window begins as far before the end of the last one as a text may be long.
        let (longest, size) = (longest as u64, WINDOW.max(2 * longest));
        let mut at = self.boot_start();
        loop {
            at = at.max(self.boot_start());
            let window = self.there_since(at, size)?;
            if let Some(found) = texts
                .iter()
                .position(|text| memchr::memmem::find(&window, text).is_some())
            {
                return Ok(Some(found));
            }
            let end = at + window.len() as u64;
            if end < self.mark() {
                at = end.saturating_sub(longest);
                // The file's other tasks run meanwhile.
                tokio::task::yield_now().await;
                continue;
            }
            // A text may begin in what was searched and end in what is still to come.
            at = end.saturating_sub(longest);
            match tokio::time::timeout_at(deadline, self.log.changed_past(end)).await {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(_) => {
                    let why = format!(
                        "timed out waiting for {}{}{}",
                        any_of(texts),
                        self.lost(),
                        self.shown_of_boot()
                    );
                    return Err(LabError::invalid(self.subject(), call, why));
                }
            }
        }
    }

    /// The error of a wait for texts that the console has ended before; `why`, if it is known.
    pub(crate) fn ended_before(&self, call: &str, texts: &[&[u8]], why: Option<&str>) -> LabError {
        let why = why.map_or_else(String::new, |why| format!(": {why}"));
        let text = format!(
            "the console ended before {}{why}{}{}",
            any_of(texts),
            self.lost(),
            self.shown_of_boot()
        );
        LabError::invalid(self.subject(), call, text)
    }

    /// A note that the log lacks bytes, if it does.
    pub(crate) fn lost(&self) -> String {
        let complete = self.log.check_complete();
        complete.map_or_else(|error| format!("; {}", chain(&error)), |()| String::new())
    }

    /// Fails if the text comes within `duration` from now on, whether or not a machine runs.
    pub(crate) async fn never(&self, text: &[u8], duration: Duration) -> Result<(), LabError> {
        let deadline = Instant::now() + duration;
        let size = WINDOW.max(2 * text.len());
        let mut at = self.mark();
        loop {
            let fresh = self.there_since(at, size)?;
            if memchr::memmem::find(&fresh, text).is_some() {
                let why = format!("`{}` came{}", shown(text), self.shown());
                return Err(LabError::invalid(self.subject(), never_call(text), why));
            }
            let end = at + fresh.len() as u64;
            // A text may begin in what was searched and end in what is still to come.
            at = end.saturating_sub(text.len() as u64).max(at);
            let more = self.log.grown_past(end);
            if tokio::time::timeout_at(deadline, more).await.is_err() {
                // It may be among bytes that were lost.
                let complete = self.log.check_complete();
                return complete
                    .map_err(|error| LabError::host(self.subject(), never_call(text), error));
            }
        }
    }

    /// Types into the console.
    pub async fn write(&self, data: &[u8], timeout: Duration) -> Result<(), LabError> {
        let call = format!("write({} bytes)", data.len());
        let mut typed = 0;
        let write = self.log.write_counted(data, &mut typed);
        match tokio::time::timeout(timeout, write).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(LabError::host(self.subject(), call, error)),
            Err(_) => Err(LabError::TimedOut {
                subject: self.subject(),
                call,
                after: timeout,
                note: format!(
                    "; the guest does not take what is typed: {typed} bytes were handed over"
                ),
            }),
        }
    }

    /// The end of the log, for a message.
    fn shown(&self) -> String {
        match self.tail(SHOWN) {
            tail if tail.is_empty() => "; it is empty".to_owned(),
            tail => format!("; its end:\n{tail}"),
        }
    }

    /// The same of what was printed since the last boot or reset, if there was one: earlier text was not searched.
    fn shown_of_boot(&self) -> String {
        let boot = self.boot_start();
        if boot == 0 {
            return self.shown();
        }
        match self.tail_since(boot, SHOWN) {
            tail if tail.is_empty() => "; it is empty since the last boot or reset".to_owned(),
            tail => format!("; its end since the last boot or reset:\n{tail}"),
        }
    }
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Console").field(&self.vm).finish()
    }
}

/// The log, read from its first byte.
struct LogSource {
    log: Log,
    at: u64,
}

impl ByteSource for LogSource {
    fn read(&mut self) -> ReadFuture<'_> {
        Box::pin(async {
            if self.at == self.log.len() {
                let complete = self.log.check_complete();
                complete.map_err(|error| LabError::host("console", "read()", error))?;
            }
            if !self.log.changed_past(self.at).await {
                return Ok(None);
            }
            let fresh = self.log.read_at_most(self.at, WINDOW);
            let fresh = fresh.map_err(|error| LabError::host("console", "read()", error))?;
            self.at += fresh.len() as u64;
            Ok(Some(fresh))
        })
    }
}
