//! Standard output and standard error.
//!
//! Whoever reads may go away at any time (`provium | head`): that is no reason to fail. Any other error
//! of writing is kept for the end of the program, which is no success then. Who reads may also stand
//! still; then a write lasts until they go on, and what must not wait for them is said by
//! [`notice`] or [`last_words`].
//!
//! No text that is written here moves the cursor: what is no colour sequence is escaped at this door,
//! whatever its author has forgotten.

use crate::failure::Failure;
use crate::live;
use crate::lowargs::ColorChoice;
use provium_events::printable::for_terminal;
use std::io::{self, ErrorKind, IsTerminal as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long words that matter only now are waited for.
const SHORTLY: Duration = Duration::from_millis(200);

/// Whether texts may hold colour sequences.
static COLOURS: AtomicBool = AtomicBool::new(false);

/// The first write that failed.
static FAILED: Mutex<Option<(Stream, io::Error)>> = Mutex::new(None);

/// Whether what people read is to be coloured.
pub(crate) fn wants_colour(choice: ColorChoice) -> bool {
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => {
            // https://no-color.org: any value but the empty one.
            let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
            !refused && !dumb && io::stdout().is_terminal()
        }
    }
}

/// Lets colour sequences pass, or not.
pub(crate) fn set_colours(wanted: bool) {
    COLOURS.store(wanted, Ordering::Relaxed);
}

/// What was not written, if a write has failed.
pub(crate) fn failure() -> Option<Failure> {
    let failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner).take();
    failed.map(|(stream, source)| Failure::Output {
        stream: match stream {
            Stream::Out => "standard output",
            Stream::Error => "standard error",
        },
        source,
    })
}

/// One of the two places that text goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Error,
}

impl Stream {
    /// Writes, without a look at what stands there.
    pub(crate) fn write(self, bytes: &[u8]) {
        let mut stream: Box<dyn io::Write> = match self {
            Self::Out => Box::new(io::stdout().lock()),
            Self::Error => Box::new(io::stderr().lock()),
        };
        let written = stream.write_all(bytes).and_then(|()| stream.flush());
        if let Err(error) = written
            && error.kind() != ErrorKind::BrokenPipe
        {
            let mut failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert((self, error));
        }
    }

    /// Columns and lines, where it is a terminal that knows them.
    pub(crate) fn terminal_size(self) -> Option<(u16, u16)> {
        let size = match self {
            Self::Out => rustix::termios::tcgetwinsize(io::stdout()),
            Self::Error => rustix::termios::tcgetwinsize(io::stderr()),
        };
        let size = size.ok()?;
        (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
    }
}

/// Writes to standard output.
pub(crate) fn out(text: &str) {
    write_text(Stream::Out, text);
}

/// Writes bytes for machines to standard output, as they are.
pub(crate) fn out_bytes(bytes: &[u8]) {
    write(Stream::Out, bytes);
}

/// Writes to standard error.
pub(crate) fn error(text: &str) {
    write_text(Stream::Error, text);
}

/// Writes to standard error, but does not wait long for a reader.
pub(crate) fn notice(text: &'static str) {
    shortly(move || error(text));
}

/// Takes away what is drawn and writes to standard error, but does not wait long for a reader.
pub(crate) fn last_words(text: &'static str) {
    shortly(move || {
        live::end();
        error(text);
    });
}

/// Does `work` on a thread of its own, and goes on when it is done or takes too long: then nobody
/// reads, and there is nobody to tell. A host without another thread says nothing.
fn shortly(work: impl FnOnce() + Send + 'static) {
    let (done, waiting) = channel::<()>();
    let thread = std::thread::Builder::new().name("notice".to_owned());
    drop(thread.spawn(move || {
        work();
        drop(done);
    }));
    let _ = waiting.recv_timeout(SHORTLY);
}

fn write_text(stream: Stream, text: &str) {
    let text = for_terminal(text, COLOURS.load(Ordering::Relaxed));
    write(stream, text.as_bytes());
}

fn write(stream: Stream, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let _cleared = live::make_way();
    stream.write(bytes);
}
