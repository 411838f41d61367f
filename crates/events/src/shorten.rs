//! Truncates the longest texts of an event that is too large for a frame; each says by how much.
//!
//! A lost event is worse than a truncated one: without the event of its end, a test would seem to run
//! for ever.

use crate::details::{ConsoleExcerpt, Details, FileError};
use crate::event::Event;
use crate::value::Value;

/// What is kept of each text, of each log and of each attachment, bytes. No event has so many of them
/// that together they would reach [`MAX_FRAME`](crate::frame::MAX_FRAME).
const KEPT: usize = 4 << 20;

/// Entries that are kept of a list.
const ENTRIES: usize = 20_000;

impl Event {
    /// Truncates an event that is larger than a frame; returns how many bytes were dropped.
    pub(crate) fn shorten(&mut self) -> usize {
        match self {
            Self::TestPassed { meta, details, .. } => value(meta) + of_details(details),
            Self::TestSkipped {
                reason,
                meta,
                details,
                ..
            } => text(reason) + value(meta) + of_details(details),
            Self::TestFailed {
                reason,
                meta,
                console_excerpt,
                consoles,
                details,
                ..
            } => {
                let console = console_excerpt.as_mut().map_or(0, text) + of_consoles(consoles);
                text(reason) + value(meta) + console + of_details(details)
            }
            Self::TestInterrupted { meta, details, .. } => value(meta) + of_details(details),
            Self::TestStarted { meta, .. } => value(meta),
            Self::TestRetried { reason, .. } | Self::TestNotRun { reason, .. } => text(reason),
            Self::TestAttachment { attachment, .. } => {
                let dropped = attachment.content.len().saturating_sub(KEPT);
                attachment.content.truncate(KEPT);
                if dropped > 0 {
                    attachment.name.push_str(" (cut)");
                }
                dropped
            }
            Self::FileCompleted {
                error: Some(error), ..
            } => of_error(error),
            Self::FileDiscovered { fixture_refs, .. } => lines(fixture_refs),
            Self::Notice(notice) => text(&mut notice.text),
            _ => 0,
        }
    }
}

fn of_details(details: &mut Details) -> usize {
    let steps = details.steps.len();
    details.steps.truncate(ENTRIES);
    let steps = steps - details.steps.len();
    let names: usize = details
        .steps
        .iter_mut()
        .map(|step| text(&mut step.name))
        .sum();
    let expected = details.expected_failure.as_mut().map_or(0, text);
    let logs = lines(&mut details.log) + lines(&mut details.notes);
    logs + lines(&mut details.traceback) + names + steps + expected
}

/// Keeps the beginning of each console, and as many consoles as fit the limit.
fn of_consoles(consoles: &mut Vec<ConsoleExcerpt>) -> usize {
    let mut dropped = 0;
    let mut kept = 0;
    let mut room = KEPT;
    for console in consoles.iter_mut().take(ENTRIES) {
        if room == 0 {
            break;
        }
        dropped += text(&mut console.text);
        room = room.saturating_sub(console.text.len());
        kept += 1;
    }
    let rest = consoles.drain(kept..).map(|console| console.text.len());
    dropped + rest.sum::<usize>()
}

fn of_error(error: &mut FileError) -> usize {
    text(&mut error.message) + lines(&mut error.traceback)
}

/// Keeps the beginning and says how much more there was.
fn text(text: &mut String) -> usize {
    let dropped = text.len().saturating_sub(KEPT);
    if dropped == 0 {
        return 0;
    }
    // A character has at most four bytes.
    let end = (KEPT - 3..=KEPT)
        .rev()
        .find(|end| text.is_char_boundary(*end));
    let end = end.unwrap_or(0);
    let dropped = text.len() - end;
    text.truncate(end);
    text.push_str(&format!("… ({dropped} bytes dropped)"));
    dropped
}

/// Keeps as many of the first lines as fit the limit.
fn lines(lines: &mut Vec<String>) -> usize {
    let mut dropped = 0;
    let mut kept = 0;
    let mut room = KEPT;
    for line in lines.iter_mut() {
        if room == 0 || kept == ENTRIES {
            break;
        }
        dropped += text(line);
        room = room.saturating_sub(line.len());
        kept += 1;
    }
    if kept < lines.len() {
        let rest: usize = lines[kept..].iter().map(String::len).sum();
        let count = lines.len() - kept;
        lines.truncate(kept);
        lines.push(format!("… ({count} entries, {rest} bytes dropped)"));
        dropped += rest;
    }
    dropped
}

fn value(value: &mut Value) -> usize {
    if size(value) <= KEPT {
        return 0;
    }
    let dropped = size(value);
    *value = Value::Text(format!("… ({dropped} bytes dropped)"));
    dropped
}

fn size(value: &Value) -> usize {
    match value {
        Value::Nil | Value::Bool(_) => 1,
        Value::Int(_) | Value::Float(_) => 9,
        Value::Text(text) => text.len() + 5,
        Value::Bytes(bytes) => bytes.len() + 5,
        Value::List(items) => 5 + items.iter().map(size).sum::<usize>(),
        Value::Map(entries) => {
            let entry = |(key, value): &(Value, Value)| size(key) + size(value);
            5 + entries.iter().map(entry).sum::<usize>()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::details::{Location, Step};
    use crate::frame::{Decoder, TimedEvent, encode};

    #[test]
    fn the_end_of_a_test_fits_into_a_frame() {
        let long = || "é".repeat(40 << 20);
        let event = Event::TestFailed {
            path: "a.test.lua".into(),
            name: "says a lot".into(),
            duration_ns: 1,
            meta: Value::Map(vec![("note".into(), Value::Text(long()))]),
            reason: long(),
            console_excerpt: Some(long()),
            consoles: vec![
                ConsoleExcerpt {
                    vm: "web".into(),
                    text: long(),
                    in_reason: false,
                    more_lines: 0,
                    file: None,
                };
                3
            ],
            details: Details {
                location: Some(Location {
                    file: "a.test.lua".into(),
                    line: 1,
                    column: None,
                }),
                traceback: vec![long(), long()],
                log: std::iter::repeat_n("x".repeat(1000), 100_000).collect(),
                notes: vec![long()],
                steps: vec![
                    Step {
                        name: "s".into(),
                        duration_ns: 1,
                        passed: true,
                    };
                    100_000
                ],
                attempts: 1,
                expected_failure: Some(long()),
                files: Vec::new(),
            },
        };
        let bytes = encode(&TimedEvent { ts: 1, event }).unwrap();
        let mut decoder = Decoder::new();
        decoder.feed(&bytes);
        let Some(TimedEvent {
            event: Event::TestFailed {
                reason, details, ..
            },
            ..
        }) = decoder.next_event().unwrap()
        else {
            panic!("another event");
        };
        assert!(
            reason.ends_with("bytes dropped)"),
            "{}",
            &reason[reason.len() - 40..]
        );
        assert!(details.log.last().unwrap().ends_with("bytes dropped)"));
    }
}
