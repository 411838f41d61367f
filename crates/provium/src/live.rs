//! Lines at the bottom of a terminal that are true now only: drawn, drawn over, and taken away before
//! anything else is written, so that what stays is plain text.
//!
//! [`Block`] gives the bytes. The one block that the process may have on its terminal is here as well:
//! `terminal` takes it away before each text, whoever writes it.

use crate::terminal::Stream;
use provium_report::Room;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Lines that are drawn at most: a run of many files must not fill the screen.
const MOST_LINES: usize = 12;

/// What stands on the terminal now.
#[derive(Debug, Default)]
struct Block {
    lines: usize,
}

/// The process's block.
#[derive(Debug)]
struct Shown {
    block: Block,
    on: Stream,
    ended: bool,
}

static SHOWN: Mutex<Shown> = Mutex::new(Shown {
    block: Block { lines: 0 },
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

/// Takes the lines away; whatever is written next stands in their place. They stay away as long as
/// what is returned lives.
pub(crate) fn make_way() -> impl Drop {
    let mut shown = lock();
    let bytes = shown.block.erase();
    if !bytes.is_empty() {
        shown.on.write(bytes.as_bytes());
    }
    shown
}

/// Takes the lines away for good.
pub(crate) fn end() {
    drop(make_way());
    lock().ended = true;
}

/// The room for lines on `on`; `None` where it is no terminal, or one that knows no cursor.
pub(crate) fn room(on: Stream) -> Option<Room> {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    let size = on.terminal_size().filter(|_| !dumb)?;
    let (columns, lines) = (usize::from(size.0), usize::from(size.1));
    Some(Room {
        // Some terminals wrap a line that fills them to the edge.
        columns: columns.saturating_sub(1),
        // One line is the cursor's.
        lines: lines.saturating_sub(2).min(MOST_LINES),
    })
}

fn lock() -> MutexGuard<'static, Shown> {
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Block {
    /// Bytes that put `lines` in the place of those that stand there. The cursor is left below them,
    /// so that a process that is killed leaves whole lines.
    fn redraw(&mut self, lines: &[String]) -> String {
        if self.lines == 0 && lines.is_empty() {
            return String::new();
        }
        // A character that takes two columns must not make a line wrap (DECAWM).
        let mut bytes = String::from("\x1b[?7l");
        let before = std::mem::replace(&mut self.lines, lines.len());
        up(&mut bytes, before);
        // Line by line (ECMA-48, 8.3.41): terminals that are told to clear from the top of the screen
        // on keep what was there in their history.
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

    /// Bytes that take them away and put the cursor where they began.
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
    fn each_drawing_takes_the_place_of_the_one_before() {
        let mut block = Block::default();
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
