//! Streams of bytes: tails of files, outputs of processes, consoles.

use super::value;
use crate::api::globals::captured;
use crate::binding::args::Args;
use crate::binding::class::{Class, Object};
use crate::binding::preview::shown;
use crate::binding::raise::LuaError;
use crate::engine::cut::keep_in;
use crate::engine::started_processes::{output_lines, state};
use crate::engine::test_file::TestFileState;
use crate::pattern::{self, FoundMatch, PatternError};
use mlua::{Lua, MultiValue, Result, Value};
use provium_lab::request::NoticeKind;
use provium_lab::{ByteStream, LabError, Process, Vm};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The timeout of calls that wait for text or for the next bytes.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long nothing may arrive until `drain` returns.
const DEFAULT_QUIET_TIME: Duration = Duration::from_millis(500);
/// How many bytes are gathered, while they are there, before a pattern is tried on them.
const FIRST_TRY: usize = 64 * 1024;

/// How long the end of a process may come after the end of its output.
const END_GRACE: Duration = Duration::from_secs(2);

/// What the error of a call that waits for text says at the end of the stream.
const AT_THE_END: &str = "stream EOF before";

/// A stream as Lua holds it.
#[derive(Debug, Clone)]
pub(super) struct StreamObject {
    stream: ByteStream,
    origin: Option<StreamOrigin>,
}

/// Whose end ends a stream. Errors at the end of the stream say how it ended.
#[derive(Debug, Clone)]
pub(super) enum StreamOrigin {
    /// The stream is an output of this process.
    Process(Process),
    /// The stream is the console of this VM.
    Console(Vm),
}

impl Object for StreamObject {
    const CLASS: &'static str = "stream";
    fn subject(&self) -> String {
        self.stream.subject().to_owned()
    }
    fn describe(&self) -> String {
        value::describe_handle(self.subject(), self.stream.is_closed())
    }
}

/// The Lua value of a stream.
pub(super) fn value(lua: &Lua, stream: ByteStream) -> Result<Value> {
    value::of(lua, stream.id(), || StreamObject {
        stream,
        origin: None,
    })
}

/// The Lua value of a stream that ends with its origin.
pub(super) fn value_of(lua: &Lua, stream: ByteStream, origin: StreamOrigin) -> Result<Value> {
    let origin = Some(origin);
    value::of(lua, stream.id(), || StreamObject { stream, origin })
}

/// An object that is read as a stream.
pub(super) trait HasStream: Object {
    /// The lab's side of it.
    fn stream(&self) -> &ByteStream;
    /// Whose end ends it.
    fn origin(&self) -> Option<&StreamOrigin> {
        None
    }
}

impl HasStream for StreamObject {
    fn stream(&self) -> &ByteStream {
        &self.stream
    }
    fn origin(&self) -> Option<&StreamOrigin> {
        self.origin.as_ref()
    }
}

/// The error of a call that waited for text. At the end of the stream it says how its origin ended.
async fn explain(lua: &Lua, origin: Option<&StreamOrigin>, error: LabError) -> LuaError {
    let mut text = error.to_string();
    if !text.contains(AT_THE_END) {
        return error.into();
    }
    match origin {
        None => return error.into(),
        Some(StreamOrigin::Process(process)) => add_end_of_process(lua, process, &mut text).await,
        Some(StreamOrigin::Console(vm)) => {
            if let Some(end) = vm.console_wait().describe_end().await {
                text.push('\n');
                text.push_str(&end);
            }
        }
    }
    LuaError::message(text)
}

/// Adds how the process ended, and what it wrote to standard error.
async fn add_end_of_process(lua: &Lua, process: &Process, text: &mut String) {
    // Its output may end a little before it does.
    let ended = process.wait(None);
    let _ = tokio::time::timeout(END_GRACE, ended).await;
    text.push_str(&format!("\n{}: {}", process.subject(), state(process)));
    let [_, stderr] = process.output_so_far();
    let keep = keep_in(&TestFileState::of(lua).lab);
    let file = || keep(&format!("{} stderr", process.subject()), &stderr);
    for line in output_lines("stderr", &stderr, file) {
        text.push('\n');
        text.push_str(&line);
    }
}

/// Makes the class.
pub(super) fn install(lua: &Lua) -> Result<()> {
    Class::<StreamObject>::new(lua)?
        .with(reading)?
        .async_method("close", |_, this, _| async move {
            Ok(this.stream.close().await?)
        })?
        .finish()
}

/// Adds what reads from a stream.
pub(super) fn reading<T: HasStream>(class: Class<'_, T>) -> Result<Class<'_, T>> {
    class
        .async_method("next", |lua, this, args| async move {
            let timeout = args
                .opt_duration(0, "the timeout")?
                .unwrap_or(DEFAULT_TIMEOUT);
            let piece = this.stream().next(timeout).await?;
            Ok(piece.map(|bytes| lua.create_string(bytes)).transpose()?)
        })?
        .async_method("read_until", |lua, this, args| async move {
            let (text, timeout) = wanted(&args)?;
            match this.stream().read_until(&text, timeout).await {
                Ok(matched) => Ok(lua.create_string(matched)?),
                Err(error) => Err(explain(&lua, this.origin(), error).await),
            }
        })?
        .async_method("expect", |lua, this, args| async move {
            let (text, timeout) = wanted(&args)?;
            match this.stream().expect(&text, timeout).await {
                Ok(()) => Ok(()),
                Err(error) => Err(explain(&lua, this.origin(), error).await),
            }
        })?
        .async_method("expect_match", |lua, this, args| async move {
            expect_match(&lua, &this, &args).await
        })?
        .async_method("drain", |lua, this, args| async move {
            let timeout = args
                .opt_duration(0, "the timeout")?
                .unwrap_or(DEFAULT_QUIET_TIME);
            let pieces = this.stream().drain(timeout).await?;
            let pieces = pieces.into_iter().map(|piece| lua.create_string(piece));
            Ok(lua.create_sequence_from(pieces.collect::<Result<Vec<_>>>()?)?)
        })?
        .method("eof", |_, this, _| Ok(this.stream().eof()))?
        .method("changes", |lua, this, _| {
            let list = lua.create_table()?;
            for (index, change) in this.stream().changes().last.iter().enumerate() {
                let entry = lua.create_table()?;
                entry.raw_set("what", word_of(change.kind))?;
                entry.raw_set("at", change.at)?;
                list.raw_set(index + 1, entry)?;
            }
            Ok(list)
        })?
        .method("creation_site", |lua, this, _| {
            let site = lua.create_table()?;
            site.raw_set("file", this.stream().site().file.as_str())?;
            site.raw_set("line", this.stream().site().line)?;
            Ok(site)
        })
}

fn word_of(change: NoticeKind) -> &'static str {
    match change {
        NoticeKind::Opened => "opened",
        NoticeKind::Truncated => "truncated",
        NoticeKind::Rewritten => "rewritten",
        NoticeKind::Replaced => "replaced",
        NoticeKind::Removed => "removed",
    }
}

fn wanted(args: &Args) -> std::result::Result<(Vec<u8>, Duration), LuaError> {
    Ok((
        args.text_to_find(0)?,
        args.opt_duration(1, "the timeout")?
            .unwrap_or(DEFAULT_TIMEOUT),
    ))
}

/// Waits for a Lua pattern; returns its captures, or what it matched.
///
/// The pattern is tried on a copy of what the stream holds, whenever that has grown, on a thread of its own: a pattern
/// that backtracks keeps neither the file's other tasks from running nor the limit from ending the call. Once it
/// matches, the stream is asked to consume the text.
///
/// A pattern has to be tried on all that is held each time, since more text can change where it matches.
/// So it is tried when the text has grown by half, or when no more is there at the moment. After a failed
/// try text is received for longer than the try took.
async fn expect_match(
    lua: &Lua,
    this: &impl HasStream,
    args: &Args,
) -> std::result::Result<MultiValue, LuaError> {
    const CALL: &str = "expect_match";
    let stream = this.stream();
    let pattern = args.pattern_to_find(0)?;
    pattern::check(&pattern).map_err(|why| bad_pattern(&args.value(0), &why))?;
    let timeout = args
        .opt_duration(1, "the timeout")?
        .unwrap_or(DEFAULT_TIMEOUT);
    let deadline = Instant::now() + timeout;
    let mut tried = None;
    loop {
        let held: Arc<Mutex<Vec<u8>>> = Arc::default();
        let copy = Arc::clone(&held);
        let grown = move |bytes: &[u8], quiet: bool| {
            if !is_worth_a_try(tried, bytes.len(), quiet) {
                return None;
            }
            *copy.lock().unwrap_or_else(PoisonError::into_inner) = bytes.to_vec();
            Some(0)
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = stream.wait_match(CALL, &pattern, left, grown);
        if let Err(error) = waited.await {
            return Err(explain(lua, this.origin(), error).await);
        }
        let held = std::mem::take(&mut *held.lock().unwrap_or_else(PoisonError::into_inner));
        tried = Some(held.len());
        let began = Instant::now();
        let (found, held) = try_pattern(held, pattern.clone(), deadline).await;
        match found {
            Ok(None) => {}
            Ok(Some(found)) => {
                let left = deadline
                    .saturating_duration_since(Instant::now())
                    .max(DEFAULT_QUIET_TIME);
                let end = found.end;
                let consume = move |bytes: &[u8], _| Some(end.min(bytes.len()));
                stream.wait_match(CALL, &pattern, left, consume).await?;
                let captures = found.captures_or_whole().into_iter();
                let captures = captures.map(|capture| captured(lua, &held, capture));
                return Ok(captures.collect::<Result<_>>()?);
            }
            Err(PatternError::Bad(why)) => return Err(bad_pattern(&args.value(0), &why)),
            Err(PatternError::Stopped(TimeIsUp)) => {
                let nothing = |_: &[u8], _| None;
                let waited = stream
                    .wait_match(CALL, &pattern, Duration::ZERO, nothing)
                    .await;
                let Err(error) = waited else { continue };
                let text = format!(
                    "{error}\nthe pattern backtracks: one try on {} bytes took {:.1} s, and was stopped; make it more \
                     specific",
                    held.len(),
                    began.elapsed().as_secs_f64()
                );
                return Err(LuaError::message(text));
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let pause = left.min(2 * began.elapsed());
        stream.gather(held.len() + held.len() / 2, pause).await;
    }
}

/// The time of a call that matches a pattern is up, or its caller does not wait for it any more.
#[derive(Debug)]
struct TimeIsUp;

/// Tries the pattern on what a stream holds, on another thread, which stops at the deadline and when this is dropped.
async fn try_pattern(
    held: Vec<u8>,
    pattern: Vec<u8>,
    deadline: Instant,
) -> (
    std::result::Result<Option<FoundMatch>, PatternError<TimeIsUp>>,
    Vec<u8>,
) {
    let wanted = Arc::new(());
    let still_wanted = Arc::downgrade(&wanted);
    let tried = tokio::task::spawn_blocking(move || {
        let go_on = || match still_wanted.strong_count() > 0 && Instant::now() < deadline {
            true => Ok(()),
            false => Err(TimeIsUp),
        };
        let found = pattern::first_match(&held, &pattern, 0, go_on);
        (found, held)
    });
    let tried = tried.await;
    drop(wanted);
    match tried {
        Ok(tried) => tried,
        // The runtime ends.
        Err(_) => (Err(PatternError::Stopped(TimeIsUp)), Vec::new()),
    }
}

/// Whether to try the pattern on `now` bytes after it did not match fewer.
fn is_worth_a_try(tried: Option<usize>, now: usize, quiet: bool) -> bool {
    match tried {
        None => quiet || now >= FIRST_TRY,
        Some(tried) if quiet => now > tried,
        Some(tried) => now >= (tried + tried / 2).max(FIRST_TRY),
    }
}

fn bad_pattern(pattern: &Value, why: &str) -> LuaError {
    LuaError::argument(format!("the pattern {}: {why}", shown(pattern)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_tried_a_number_of_times_that_grows_slowly() {
        let (mut tried, mut tries) = (None, 0);
        for size in (0..=16 << 20).step_by(4096) {
            if is_worth_a_try(tried, size, false) {
                (tried, tries) = (Some(size), tries + 1);
            }
        }
        assert!((5..20).contains(&tries), "{tries}");
        assert!(is_worth_a_try(None, 0, true), "what is there already");
        assert!(is_worth_a_try(Some(10), 11, true));
        assert!(!is_worth_a_try(Some(10), 10, true), "nothing new");
        assert!(!is_worth_a_try(Some(10), 11, false), "more is coming");
    }
}
