//! Searches of stream calls in the bytes that a stream buffers.

use crate::guest::describe::quoted;
use provium_events::printable::text_of;

/// A search of a call.
pub(super) trait Search: Send {
    /// The text or the pattern.
    fn text(&self) -> &[u8];
    /// Where the match ends in the buffered bytes; `quiet`: no more bytes are available at the moment.
    fn find(&mut self, bytes: &[u8], quiet: bool) -> Option<usize>;
    /// The first `count` buffered bytes were discarded.
    fn dropped(&mut self, _count: usize) {}
}

/// Most bytes of a text that a message shows.
const SHOWN: usize = 200;

/// A text that was waited for, in a message.
pub(crate) fn shown(text: &[u8]) -> String {
    let start = text_of(&text[..text.len().min(SHOWN)]);
    match text.len() {
        0..=SHOWN => start,
        length => format!("{start}… ({length} bytes)"),
    }
}

/// The call that waits for it, in a message.
pub(crate) fn shown_call(call: &str, text: &[u8]) -> String {
    let start = quoted(&text[..text.len().min(SHOWN)]);
    match text.len() {
        0..=SHOWN => format!("{call}({start})"),
        _ => format!("{call}({start}…)"),
    }
}

/// A plain text. Bytes that were searched once are not searched again.
pub(super) struct Needle<'a> {
    pub(super) text: &'a [u8],
    searched: usize,
}

impl<'a> Needle<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, searched: 0 }
    }
}

impl Search for Needle<'_> {
    fn text(&self) -> &[u8] {
        self.text
    }

    fn find(&mut self, bytes: &[u8], _quiet: bool) -> Option<usize> {
        let from = self.searched.saturating_sub(self.text.len());
        self.searched = bytes.len();
        let at = memchr::memmem::find(&bytes[from..], self.text)?;
        Some(from + at + self.text.len())
    }

    fn dropped(&mut self, count: usize) {
        self.searched = self.searched.saturating_sub(count);
    }
}

/// A search by a function.
pub(super) struct FoundBy<'a, F> {
    /// What it searches for.
    pub(super) text: &'a [u8],
    pub(super) found: F,
}

impl<F: FnMut(&[u8], bool) -> Option<usize> + Send> Search for FoundBy<'_, F> {
    fn text(&self) -> &[u8] {
        self.text
    }

    fn find(&mut self, bytes: &[u8], quiet: bool) -> Option<usize> {
        (self.found)(bytes, quiet)
    }
}
