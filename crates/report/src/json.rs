//! One JSON object a file, each on a line of its own.

use crate::record::{CompletedFile, CompletedItem, FailedAttempt, Records, TestRecord};
use provium_events::printable::json;
use provium_events::{
    Attachment, ConsoleExcerpt, Event, FileStatus, Location, Notice, NoticeLevel, NoticeSubject,
    Step, TestStatus, Value,
};
use serde::Serialize;

/// Nanoseconds in a millisecond.
const MILLISECOND: u64 = 1_000_000;

/// The `--json` report.
#[derive(Debug, Default)]
pub struct JsonLines {
    records: Records,
}

#[derive(Serialize)]
struct FileRow<'a> {
    path: &'a str,
    timeout: &'static str,
    passed: bool,
    chunk_error: Option<&'a str>,
    duration_ms: u64,
    tests: Vec<TestRow<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    notices: Vec<NoticeRow<'a>>,
}

/// A notice about the file, which the line names already.
#[derive(Serialize)]
struct NoticeRow<'a> {
    level: NoticeLevel,
    about: NoticeSubject,
    text: &'a str,
}

#[derive(Serialize)]
struct TestRow<'a> {
    name: &'a str,
    status: TestStatus,
    message: Option<&'a str>,
    log: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    notes: &'a [String],
    duration_ms: u64,
    meta: &'a Value,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<&'a Location>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    traceback: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    steps: &'a [Step],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    consoles: &'a [ConsoleExcerpt],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<AttachmentRow<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed_attempts: Vec<AttemptRow<'a>>,
    /// Why the test was expected to fail, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_failure: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    files: &'a [String],
}

/// An attachment; its bytes are in the events.
#[derive(Serialize)]
struct AttachmentRow<'a> {
    name: &'a str,
    size_bytes: usize,
    /// The content, if it is text.
    text: Option<&'a str>,
}

/// An attempt that failed and was followed by another.
#[derive(Serialize)]
struct AttemptRow<'a> {
    attempt: u32,
    message: &'a str,
    location: Option<&'a Location>,
    duration_ms: u64,
}

impl JsonLines {
    /// A report at the start of a run.
    pub fn new() -> Self {
        Self::default()
    }

    /// The text for an event, with its line end; empty for most events.
    pub fn event(&mut self, event: &Event) -> String {
        match self.records.take(event) {
            Some(CompletedItem::File(completed)) => line(&completed),
            _ => String::new(),
        }
    }
}

fn line(completed: &CompletedFile) -> String {
    let line = FileRow {
        path: &completed.file.path,
        timeout: match completed.status {
            FileStatus::TimedOut => "timed_out",
            _ => "in_time",
        },
        passed: completed.status == FileStatus::Passed,
        chunk_error: completed.error.as_ref().map(|error| error.message.as_str()),
        duration_ms: completed.duration_ns / MILLISECOND,
        tests: completed.file.tests.iter().map(test).collect(),
        notices: completed.file.notices.iter().map(notice).collect(),
    };
    // Strings, numbers, lists and maps with text keys always serialise.
    let mut text = serde_json::to_string(&line).unwrap_or_default();
    text = json(text);
    text.push('\n');
    text
}

fn notice(notice: &Notice) -> NoticeRow<'_> {
    NoticeRow {
        level: notice.level,
        about: notice.about,
        text: &notice.text,
    }
}

fn test(test: &TestRecord) -> TestRow<'_> {
    TestRow {
        name: &test.name,
        status: test.status,
        message: test.message.as_deref(),
        log: &test.details.log,
        notes: &test.details.notes,
        duration_ms: test.duration_ns / MILLISECOND,
        meta: &test.meta,
        attempts: test.details.attempts,
        location: test.details.location.as_ref(),
        traceback: &test.details.traceback,
        steps: &test.details.steps,
        consoles: &test.consoles,
        attachments: test.attachments.iter().map(attachment).collect(),
        failed_attempts: test.failed_attempts.iter().map(attempt).collect(),
        expected_failure: test.details.expected_failure.as_deref(),
        files: &test.details.files,
    }
}

fn attachment(attachment: &Attachment) -> AttachmentRow<'_> {
    AttachmentRow {
        name: &attachment.name,
        size_bytes: attachment.content.len(),
        text: std::str::from_utf8(&attachment.content).ok(),
    }
}

fn attempt(attempt: &FailedAttempt) -> AttemptRow<'_> {
    AttemptRow {
        attempt: attempt.number,
        message: &attempt.reason,
        location: attempt.location.as_ref(),
        duration_ms: attempt.duration_ns / MILLISECOND,
    }
}
