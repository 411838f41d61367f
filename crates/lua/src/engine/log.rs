//! The log of a test, with bounded size.
//!
//! A test that prints without end must not exhaust the host's memory. The first and the last lines are
//! kept; a note replaces those in between.

use crate::text::{display, without_middle};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// Bytes that are kept of the first lines, and of the last ones.
const HALF: usize = 4 << 20;
/// Longest line.
const MAX_LINE: usize = 1 << 20;
/// Memory of a line in addition to its text, bytes.
const OVERHEAD: usize = 32;

/// A log with several writers: a fixture writes to the log of the test that uses it.
pub(crate) type Log = Rc<RefCell<LogLines>>;

/// Lines for the reader of a test's result.
#[derive(Debug, Default)]
pub(crate) struct LogLines {
    head: Vec<String>,
    head_size: usize,
    tail: VecDeque<String>,
    tail_size: usize,
    dropped_lines: usize,
    dropped_bytes: usize,
    /// Bytes that were written and do not end a line yet.
    unfinished: Vec<u8>,
}

impl LogLines {
    /// Adds bytes, as a file that is written to: they may be part of a line.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.unfinished.extend_from_slice(bytes);
        while let Some(end) = self.unfinished.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.unfinished.drain(..=end).collect();
            self.add(display(&line[..end]));
        }
        if self.unfinished.len() > MAX_LINE {
            let line = std::mem::take(&mut self.unfinished);
            self.add(display(&line));
        }
    }

    /// Adds a line, behind what was written before it without a line's end.
    pub(crate) fn push(&mut self, line: String) {
        if self.unfinished.is_empty() {
            return self.add(line);
        }
        let begun = std::mem::take(&mut self.unfinished);
        self.add(display(&begun) + &line);
    }

    fn add(&mut self, line: String) {
        let line = without_middle(line, MAX_LINE);
        let size = line.len() + OVERHEAD;
        if self.tail.is_empty() && self.head_size + size <= HALF {
            self.head_size += size;
            self.head.push(line);
            return;
        }
        self.tail_size += size;
        self.tail.push_back(line);
        while self.tail_size > HALF {
            let Some(dropped) = self.tail.pop_front() else {
                break;
            };
            self.tail_size -= dropped.len() + OVERHEAD;
            self.dropped_lines += 1;
            self.dropped_bytes += dropped.len();
        }
    }

    /// All lines that were kept.
    pub(crate) fn into_lines(mut self) -> Vec<String> {
        if !self.unfinished.is_empty() {
            self.push(String::new());
        }
        let mut lines = self.head;
        if self.dropped_lines > 0 {
            lines.push(format!(
                "… {} lines ({} bytes) were dropped here: a test's log keeps its first and last {} MiB …",
                self.dropped_lines,
                self.dropped_bytes,
                HALF >> 20
            ));
        }
        lines.extend(self.tail);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_lines_are_kept() {
        let mut log = LogLines::default();
        for number in 0..500_000 {
            log.push(format!("line {number}"));
        }
        let lines = log.into_lines();
        let size: usize = lines.iter().map(String::len).sum();
        assert!(size < 2 * HALF, "{size}");
        assert_eq!(lines[0], "line 0");
        assert_eq!(lines.last().unwrap(), "line 499999");
        let note = lines
            .iter()
            .find(|line| line.contains("were dropped"))
            .unwrap();
        let dropped: usize = note.split(' ').nth(1).unwrap().parse().unwrap();
        assert_eq!(lines.len() - 1 + dropped, 500_000);
    }

    #[test]
    fn parts_of_lines_are_put_together() {
        let mut log = LogLines::default();
        log.write(b"a");
        log.write(b"b\n\nc\xff");
        log.push("d".to_owned());
        log.write(b"e");
        assert_eq!(log.into_lines(), ["ab", "", "c\\xffd", "e"]);
    }

    #[test]
    fn a_long_line_loses_its_middle() {
        let mut log = LogLines::default();
        log.push("x".repeat(3 * MAX_LINE));
        let lines = log.into_lines();
        assert!(lines[0].len() < MAX_LINE + 100 && lines[0].contains("are left out"));
    }
}
