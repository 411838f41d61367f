//! Text for people and bytes for machines.
//!
//! A reader may stop reading; then a write blocks, and text that must not wait for the reader is written
//! by [`notice`] or [`last_words`].
//!
//! No text that is written here moves the cursor: every control sequence that is not a colour is escaped
//! here, as a last filter.

use super::live;
use super::stream::Stream;
use crate::lowargs::ColorChoice;
use anstream::AutoStream;
use provium_events::printable::for_terminal;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

/// How long a message is waited for that matters only now.
const SHORTLY: Duration = Duration::from_millis(200);

/// Whether texts may hold colour sequences.
static COLOURS: AtomicBool = AtomicBool::new(false);

/// Whether to colour what people read.
pub(crate) fn wants_colour(choice: ColorChoice) -> bool {
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => {
            // Looks at NO_COLOR, CLICOLOR, CLICOLOR_FORCE, TERM, and whether it is a terminal.
            AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never
        }
    }
}

/// Lets colour sequences pass, or not.
pub(crate) fn set_colours(wanted: bool) {
    COLOURS.store(wanted, Ordering::Relaxed);
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

/// Erases the live lines and writes to standard error, but does not wait long for a reader.
pub(crate) fn last_words(text: &'static str) {
    shortly(move || {
        live::end();
        error(text);
    });
}

/// Does `work` on a thread of its own, and returns when it is done or takes too long: then the reader has
/// stopped reading. If the host has no thread left, nothing is written.
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
    let _cleared = live::clear();
    stream.write(bytes);
}
