//! One JSON object a file, each on a line of its own.

use crate::record::{Completed, Records, TestRecord};
use provium_events::printable::json;
use provium_events::{Event, FileStatus, Notice, NoticeLevel, NoticeSubject, TestStatus, Value};
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
    duration_ms: u64,
    meta: &'a Value,
    attempts: u32,
}

impl JsonLines {
    /// A report at the start of a run.
    pub fn new() -> Self {
        Self::default()
    }

    /// The text for an event, with its line end; empty for most events.
    pub fn event(&mut self, event: &Event) -> String {
        self.records
            .take(event)
            .map(|completed| line(&completed))
            .unwrap_or_default()
    }
}

fn line(completed: &Completed) -> String {
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
        duration_ms: test.duration_ns / MILLISECOND,
        meta: &test.meta,
        attempts: test.details.attempts,
    }
}
