//! The shape of texts in reports: margins, tails, durations, names and places.

use provium_events::Location;
use provium_events::printable::one_line;

/// Longest text that is repeated in a summary, characters.
const SUMMARY: usize = 200;

/// `text` with `by` spaces in front of every line that has something in it, and a line end.
pub(crate) fn indented(text: &str, by: usize) -> String {
    let mut out = String::new();
    for line in text.lines() {
        if !line.is_empty() {
            out.extend(std::iter::repeat_n(' ', by));
            out.push_str(line);
        }
        out.push('\n');
    }
    out
}

/// The last `count` lines, and how many there are before them.
pub(crate) fn tail(text: &str, count: usize) -> (usize, Vec<&str>) {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let skipped = lines.len().saturating_sub(count);
    (skipped, lines.into_iter().skip(skipped).collect())
}

/// A duration in seconds, with this number of digits after the point.
pub(crate) fn seconds(duration_ns: u64, digits: usize) -> String {
    let seconds = duration_ns as f64 / 1e9;
    format!("{seconds:.digits$}s")
}

/// The name of a test as the next run takes it.
pub(crate) fn address(path: &str, name: &str) -> String {
    format!("{}::{}", one_line(path), one_line(name))
}

/// A place as terminals and editors open it, and the next run takes it.
pub(crate) fn place(location: &Location) -> String {
    let (file, line) = (one_line(&location.file), location.line);
    match location.column {
        Some(column) => format!("{file}:{line}:{column}"),
        None => format!("{file}:{line}"),
    }
}

/// The first line of a message, for a summary.
pub(crate) fn first_line(message: &str) -> String {
    let first = message.trim_start().lines().next().unwrap_or_default();
    let mut characters = first.chars();
    let mut kept: String = characters.by_ref().take(SUMMARY).collect();
    if characters.next().is_some() {
        kept.push('…');
    }
    one_line(&kept)
}
