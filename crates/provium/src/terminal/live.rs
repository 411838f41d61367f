//! Live lines at the bottom of a terminal: drawn, redrawn, and erased before anything else is written, so
//! that only plain text stays.
//!
//! [`LiveBlock`] gives the bytes. The one block that the process may have on its terminal is here as well:
//! `text` erases it before each text, from any thread.
//!
//! Ours and not `indicatif`: the block must be erased under the same lock as every write to either
//! stream, also by the thread of signals, which must not wait for a reader that has stopped; and all
//! lines come from events, so that no bar or spinner has state to keep.

use super::stream::Stream;
use provium_report::TerminalSize;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Lines that are drawn at most: a run of many files must not fill the screen.
const MAX_LINES: usize = 12;

/// The lines that are on the terminal.
#[derive(Debug, Default)]
struct LiveBlock {
    lines: usize,
}

/// The process's block.
#[derive(Debug)]
struct LiveState {
    block: LiveBlock,
    on: Stream,
    ended: bool,
}

static LIVE: Mutex<LiveState> = Mutex::new(LiveState {
    block: LiveBlock { lines: 0 },
    on: Stream::Out,
    ended: false,
});

/// Draws `lines` on the terminal, over those drawn before.
pub(crate) fn draw(on: Stream, lines: &[String]) {
    let mut shown = lock();
    if shown.ended {
        return;
    }
    shown.on = on;
    let bytes = shown.block.redraw(lines);
    on.write(bytes.as_bytes());
}

/// Erases the lines; the next text takes their place. They are not redrawn before the returned guard is
/// dropped.
pub(crate) fn clear() -> impl Drop {
    let mut shown = lock();
    let bytes = shown.block.erase();
    if !bytes.is_empty() {
        shown.on.write(bytes.as_bytes());
    }
    shown
}

/// Erases the lines permanently.
pub(crate) fn end() {
    drop(clear());
    lock().ended = true;
}

/// The size of the block on `on`; `None` if it is not a terminal, or one without cursor control.
pub(crate) fn size(on: Stream) -> Option<TerminalSize> {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    let size = on.terminal_size().filter(|_| !dumb)?;
    let (columns, lines) = (usize::from(size.0), usize::from(size.1));
    Some(TerminalSize {
        // Some terminals wrap a line that fills them to the edge.
        columns: columns.saturating_sub(1),
        // One line is the cursor's.
        lines: lines.saturating_sub(2).min(MAX_LINES),
    })
}

fn lock() -> MutexGuard<'static, LiveState> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LiveBlock {
    /// Bytes that replace the lines on the terminal by `lines`. The cursor is left below them, so that a
    /// process that is killed leaves whole lines.
    fn redraw(&mut self, lines: &[String]) -> String {
        if self.lines == 0 && lines.is_empty() {
            return String::new();
        }
        // A character that takes two columns must not make a line wrap (DECAWM).
        let mut bytes = String::from("\x1b[?7l");
        let before = std::mem::replace(&mut self.lines, lines.len());
        up(&mut bytes, before);
        // Line by line (ECMA-48, 8.3.41): some terminals copy what is erased from the top of the screen
        // on into their history.
        for line in lines {
            bytes.push_str("\x1b[2K");
            bytes.push_str(line);
            bytes.push_str("\r\n");
        }
        let surplus = before.saturating_sub(lines.len());
        for _ in 0..surplus {
            bytes.push_str("\x1b[2K\r\n");
        }
        up(&mut bytes, surplus);
        bytes.push_str("\x1b[?7h");
        bytes
    }

    /// Bytes that erase the lines and put the cursor where they began.
    fn erase(&mut self) -> String {
        self.redraw(&[])
    }
}

/// Moves the cursor up (ECMA-48, 8.3.22) to the beginning of a line.
fn up(bytes: &mut String, lines: usize) {
    if lines > 0 {
        let _ = write!(bytes, "\r\x1b[{lines}A");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|&line| line.to_owned()).collect()
    }

    #[test]
    fn each_drawing_replaces_the_one_before() {
        let mut block = LiveBlock::default();
        assert_eq!(block.erase(), "");
        assert_eq!(
            block.redraw(&lines(&["one", "two"])),
            "\x1b[?7l\x1b[2Kone\r\n\x1b[2Ktwo\r\n\x1b[?7h"
        );
        assert_eq!(
            block.redraw(&lines(&["three"])),
            "\x1b[?7l\r\x1b[2A\x1b[2Kthree\r\n\x1b[2K\r\n\r\x1b[1A\x1b[?7h"
        );
        assert_eq!(
            block.redraw(&[]),
            "\x1b[?7l\r\x1b[1A\x1b[2K\r\n\r\x1b[1A\x1b[?7h"
        );
        assert_eq!(block.redraw(&[]), "");
    }
}
