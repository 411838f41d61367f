//! What is shown of a test below its line: why it failed, where, and what it left behind.

use crate::excerpt::{SourceCache, excerpt};
use crate::record::TestRecord;
use crate::styles::Styles;
use crate::text::{first_line, indented, place, seconds, tail};
use provium_events::printable::{clean, one_line};
use provium_events::{Attachment, ConsoleExcerpt, FileError, counted};
use std::fmt::Write as _;

/// Console lines shown with a failed test, unless everything is wanted.
const CONSOLE_LINES: usize = 10;

/// Log lines shown with a failed test, unless everything is wanted.
const LOG_LINES: usize = 30;

/// Margin of what is below the line of a test or file.
const MARGIN: usize = 2;

/// The failure of a test, below its line.
pub(crate) fn failure(
    test: &TestRecord,
    everything: bool,
    sources: &mut SourceCache,
    styles: Styles,
) -> String {
    let limit = |lines| if everything { usize::MAX } else { lines };
    let details = &test.details;
    let mut out = failed_attempts(test, styles);
    let message = test.message.as_deref().unwrap_or_default();
    let shown = excerpt(message, details.location.as_ref(), sources, styles);
    out.push_str(&indented(&shown, MARGIN));
    out.push_str(&traceback(&details.traceback));
    out.push_str(&steps(test, styles));
    let log = clean(&details.log.join("\n"));
    out.push_str(&section("log", &log, limit(LOG_LINES)));
    for note in &details.notes {
        out.push_str(&indented(&clean(note), MARGIN));
    }
    for console in test.consoles.iter().filter(|console| !console.in_reason) {
        let title = format!("console of vm `{}`", one_line(&console.vm));
        out.push_str(&console_section(&title, console, limit(CONSOLE_LINES)));
    }
    for console in test.consoles.iter().filter(|console| console.in_reason) {
        if let Some(file) = &console.file {
            let (vm, file) = (one_line(&console.vm), one_line(file));
            let _ = writeln!(out, "  console of vm `{vm}`: all of it in {file}");
        }
    }
    out.push_str(&attachments(&test.attachments, styles));
    out
}

/// What is shown of a test that has not failed, where everything is wanted.
pub(crate) fn details(test: &TestRecord, styles: Styles) -> String {
    let mut out = failed_attempts(test, styles);
    out.push_str(&steps(test, styles));
    for line in test.details.log.iter().chain(&test.details.notes) {
        out.push_str(&indented(&clean(line), 2 * MARGIN));
    }
    out.push_str(&attachments(&test.attachments, styles));
    out
}

/// What went wrong in a file outside of any test.
pub(crate) fn file_error(error: &FileError, sources: &mut SourceCache, styles: Styles) -> String {
    let shown = excerpt(&error.message, error.location.as_ref(), sources, styles);
    indented(&shown, MARGIN) + &traceback(&error.traceback)
}

/// A line for each attempt before the last.
fn failed_attempts(test: &TestRecord, styles: Styles) -> String {
    let mut out = String::new();
    for attempt in &test.failed_attempts {
        let took = seconds(attempt.duration_ns, 2);
        let reason = first_line(&attempt.reason);
        let at = attempt.location.as_ref().map(place);
        // The reason of most failures begins with its place.
        let at = at.filter(|at| !reason.starts_with(at.as_str()));
        let at = at.map(|at| format!("{at}: ")).unwrap_or_default();
        let word = styles.warning(&format!("attempt {} failed", attempt.number));
        let _ = writeln!(out, "  {word} {took}: {at}{reason}");
    }
    out
}

fn steps(test: &TestRecord, styles: Styles) -> String {
    let mut out = String::new();
    for step in &test.details.steps {
        let word = if step.passed { "step" } else { "step failed:" };
        let (name, took) = (one_line(&step.name), seconds(step.duration_ns, 2));
        let _ = writeln!(out, "  {} {name} {took}", styles.dim(word));
    }
    out
}

fn attachments(attachments: &[Attachment], styles: Styles) -> String {
    let line = |attachment: &Attachment| {
        let (name, size) = (one_line(&attachment.name), attachment.content.len());
        format!("  {} {name} ({size} bytes)\n", styles.dim("attachment"))
    };
    attachments.iter().map(line).collect()
}

/// The author's frames, where there is more than the one that the excerpt shows.
fn traceback(frames: &[String]) -> String {
    if frames.len() < 2 {
        return String::new();
    }
    let frames = clean(&frames.join("\n")).replace('\n', "\n  ");
    indented(&format!("traceback:\n  {frames}"), MARGIN)
}

/// The last lines of a console, below how many there are before and the file that has all of them.
fn console_section(title: &str, console: &ConsoleExcerpt, limit: usize) -> String {
    let text = clean(&console.text);
    let Some(file) = &console.file else {
        return section(title, &text, limit);
    };
    let (skipped, lines) = tail(&text, limit);
    let more = console.more_lines.saturating_add(skipped as u64);
    let note = match more {
        0 => String::new(),
        more => format!("… {} in {}\n", counted(more, "more line"), one_line(file)),
    };
    format!("  {title}:\n") + &indented(&(note + &lines.join("\n")), 2 * MARGIN)
}

/// The last lines of something longer, under a title.
fn section(title: &str, text: &str, limit: usize) -> String {
    let (skipped, lines) = tail(text, limit);
    if lines.is_empty() {
        return String::new();
    }
    let before = match skipped {
        0 => String::new(),
        count => format!(" (last {} lines of {})", lines.len(), lines.len() + count),
    };
    format!("  {title}{before}:\n") + &indented(&lines.join("\n"), 2 * MARGIN)
}
