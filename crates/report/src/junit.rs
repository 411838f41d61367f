//! The JUnit report: one XML document of all runs, for CI servers.
//!
//! A file is a `testsuite`, a test a `testcase`. No standard exists. The document is valid for the schema of
//! Jenkins' xUnit plugin (`junit-10.xsd`), which refuses a whole document for one unknown attribute; Jenkins'
//! JUnit plugin and GitLab ignore what they do not know, and read the same elements, which follow Maven
//! Surefire's:
//!
//! | what | where |
//! |---|---|
//! | a failed test | `failure` with the first line as `message`, and the whole text |
//! | a skipped test, one that was not run | `skipped` with the reason |
//! | an interrupted test; a file that failed outside of any test | `error`, the latter in a case named `(file)` |
//! | attempts that failed | `flakyFailure` of a test that has passed, `rerunFailure` of one that has not |
//! | metadata | `properties` of the suite, `TEST::KEY`: the schema allows none in a case |
//! | log, steps, consoles | `system-out` of the case |
//! | attachments, and files with what the report cuts | files; `[[ATTACHMENT\|path]]` in `system-out` |
//!
//! Writes nothing: it returns the bytes of the document, and of the files that belong to it.

use crate::record::{CompletedFile, CompletedItem, FailedAttempt, Records, TestRecord};
use crate::text::{first_line, place, seconds};
use provium_events::printable::{clean, one_line};
use provium_events::{Event, FileError, FileStatus, TestStatus, Value, counted};
use quick_junit::{
    NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestRerun, TestSuite,
};
use std::fmt::Write as _;
use std::time::Duration;

/// Name of the case that stands for a file which failed outside of any test.
const FILE_CASE: &str = "(file)";

/// Begins a line of `system-out` that refers to a file.
const ATTACHMENT: &str = "[[ATTACHMENT|";

/// Bytes of a name that a file is named after.
const MAX_FILE_NAME: usize = 100;

/// Collects all runs into one document.
pub struct JUnit {
    records: Records,
    suites: Vec<TestSuite>,
    /// Folder of attachments, as the document names it.
    folder: String,
    attachments: Vec<JUnitFile>,
    seed: u64,
    accel: String,
    host: String,
    run: u32,
    duration_ns: u64,
}

/// A file that belongs to the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JUnitFile {
    /// Its name in the folder of attachments.
    pub name: String,
    /// What is in it.
    pub content: Vec<u8>,
}

impl JUnit {
    /// A document whose attachments are in `folder`, a path that readers of the document can resolve.
    pub fn new(folder: impl Into<String>) -> Self {
        Self {
            records: Records::default(),
            suites: Vec::new(),
            folder: folder.into(),
            attachments: Vec::new(),
            seed: 0,
            accel: String::new(),
            host: String::new(),
            run: 0,
            duration_ns: 0,
        }
    }

    /// Takes note of an event.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::RunStarted {
                seed, accel, host, ..
            } => {
                self.run += 1;
                self.seed = *seed;
                self.accel.clone_from(accel);
                self.host.clone_from(host);
            }
            Event::RunCompleted { duration_ns, .. } => {
                self.duration_ns = self.duration_ns.saturating_add(*duration_ns);
            }
            other => {
                if let Some(CompletedItem::File(completed)) = self.records.take(other) {
                    self.add(*completed);
                }
            }
        }
    }

    /// The document, and the files that belong to it.
    ///
    /// # Errors
    /// When the XML library refuses the document, which it does for none of ours.
    pub fn finish(self) -> Result<(Vec<u8>, Vec<JUnitFile>), quick_junit::SerializeError> {
        let mut report = Report::new("provium");
        report.set_time(Duration::from_nanos(self.duration_ns));
        report.add_test_suites(self.suites);
        let mut document = Vec::new();
        report.serialize(&mut document)?;
        Ok((without_skipped(document), self.attachments))
    }

    fn add(&mut self, completed: CompletedFile) {
        let path = one_line(&completed.file.path);
        let name = match self.run {
            0 | 1 => path.clone(),
            run => format!("{path} (run {run})"),
        };
        let mut suite = TestSuite::new(name.clone());
        suite.set_time(Duration::from_nanos(completed.duration_ns));
        for (key, value) in [
            ("seed", self.seed.to_string()),
            ("accelerator", one_line(&self.accel)),
            ("host", one_line(&self.host)),
        ] {
            suite.add_property(Property::new(key, value));
        }
        suite.extra.insert("file".into(), path.as_str().into());
        for test in &completed.file.tests {
            for (key, value) in properties(test) {
                let key = format!("{}::{key}", one_line(&test.name));
                suite.add_property(Property::new(key, value));
            }
            suite.add_test_case(self.case(&name, test));
        }
        suite.add_test_cases(file_case(&name, &completed));
        self.suites.push(suite);
    }

    /// Readers tell tests apart by class and name, so the class is the suite and not only the file.
    fn case(&mut self, suite: &str, test: &TestRecord) -> TestCase {
        let mut case = TestCase::new(one_line(&test.name), status(test));
        case.set_classname(suite);
        case.set_time(Duration::from_nanos(test.duration_ns));
        let out = self.output(test);
        if !out.is_empty() {
            case.set_system_out(out);
        }
        case
    }

    fn output(&mut self, test: &TestRecord) -> String {
        let mut out = String::new();
        for line in test.details.log.iter().chain(&test.details.notes) {
            let _ = writeln!(out, "{}", clean(line));
        }
        for step in &test.details.steps {
            let word = if step.passed { "step" } else { "step failed:" };
            let took = seconds(step.duration_ns, 2);
            let _ = writeln!(out, "{word} {} {took}", one_line(&step.name));
        }
        for console in &test.consoles {
            let _ = writeln!(out, "console of vm `{}`:", one_line(&console.vm));
            if let (more @ 1.., Some(file)) = (console.more_lines, &console.file) {
                let _ = writeln!(
                    out,
                    "  … {} in {}",
                    counted(more, "more line"),
                    one_line(file)
                );
            }
            for line in clean(&console.text).lines() {
                let _ = writeln!(out, "  {line}");
            }
        }
        // No log or console attaches a file of the server's.
        let mut out = out.replace(ATTACHMENT, "[[ ATTACHMENT|");
        for attachment in &test.attachments {
            let number = self.attachments.len() + 1;
            let name = format!("{number}-{}", file_name(&attachment.name));
            let _ = writeln!(out, "{ATTACHMENT}{}/{name}]]", self.folder);
            self.attachments.push(JUnitFile {
                name,
                content: attachment.content.clone(),
            });
        }
        for file in &test.details.files {
            // A path with brackets would end the reference.
            let file = one_line(file);
            if !file.contains(['[', ']', '|']) {
                let _ = writeln!(out, "{ATTACHMENT}{file}]]");
            }
        }
        out
    }
}

fn status(test: &TestRecord) -> TestCaseStatus {
    let message = test.message.as_deref().unwrap_or_default();
    let mut status = match test.status {
        TestStatus::Passed => TestCaseStatus::success(),
        TestStatus::Failed => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_type("failed");
            status.set_message(first_line(message));
            status.set_description(failure(test, message));
            status
        }
        TestStatus::Skipped => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(first_line(message));
            status
        }
        TestStatus::NotRun => {
            let mut status = TestCaseStatus::skipped();
            status.set_type("not_run");
            status.set_message(format!("not run: {}", first_line(message)));
            status
        }
        TestStatus::Interrupted => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status.set_type("interrupted");
            status.set_message("the run was interrupted");
            status
        }
    };
    status.add_reruns(test.failed_attempts.iter().map(rerun));
    status
}

fn rerun(attempt: &FailedAttempt) -> TestRerun {
    let mut rerun = TestRerun::new(NonSuccessKind::Failure);
    rerun.set_type("failed");
    rerun.set_message(first_line(&attempt.reason));
    let mut text = clean(&attempt.reason);
    if let Some(location) = &attempt.location {
        let _ = write!(text, "\nat {}", place(location));
    }
    let _ = write!(text, "\nafter {}", seconds(attempt.duration_ns, 2));
    rerun.set_description(text);
    rerun
}

/// The whole text of a failure.
fn failure(test: &TestRecord, message: &str) -> String {
    let mut text = clean(message);
    if let Some(location) = &test.details.location {
        let _ = write!(text, "\nat {}", place(location));
    }
    for frame in &test.details.traceback {
        let _ = write!(text, "\n  {}", one_line(frame));
    }
    text
}

/// The case of a file that failed outside of any test.
fn file_case(suite: &str, completed: &CompletedFile) -> Option<TestCase> {
    let kind = match completed.status {
        FileStatus::Failed => "failed",
        FileStatus::TimedOut => "timed_out",
        FileStatus::Crashed => "crashed",
        FileStatus::Passed | FileStatus::Interrupted | FileStatus::NotRun => return None,
    };
    let test_failed = |test: &TestRecord| test.status == TestStatus::Failed;
    let error = completed.error.as_ref();
    if error.is_none() && completed.file.tests.iter().any(test_failed) {
        return None;
    }
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
    status.set_type(kind);
    let message = error.map_or("the file did not pass", |error| &error.message);
    status.set_message(first_line(message));
    status.set_description(error.map(file_failure).unwrap_or_default());
    let mut case = TestCase::new(FILE_CASE, status);
    case.set_classname(suite);
    Some(case)
}

/// The document without the attribute `skipped` of its root, which the schema does not know there.
fn without_skipped(mut document: Vec<u8>) -> Vec<u8> {
    const ROOT: &[u8] = b"<testsuites ";
    const SKIPPED: &[u8] = b" skipped=\"";
    let find = |bytes: &[u8], what: &[u8]| {
        let mut windows = bytes.windows(what.len());
        windows.position(|window| window == what)
    };
    // The name of the root is ours, so nothing in it looks like the attribute.
    let Some(root) = find(&document, ROOT) else {
        return document;
    };
    let tag = &document[root..];
    let tag = &tag[..find(tag, b">").unwrap_or(tag.len())];
    let Some(start) = find(tag, SKIPPED) else {
        return document;
    };
    let value = &tag[start + SKIPPED.len()..];
    let length = SKIPPED.len() + find(value, b"\"").map_or(0, |end| end + 1);
    document.drain(root + start..root + start + length);
    document
}

fn file_failure(error: &FileError) -> String {
    let mut text = clean(&error.message);
    if let Some(location) = &error.location {
        let _ = write!(text, "\nat {}", place(location));
    }
    for frame in &error.traceback {
        let _ = write!(text, "\n  {}", one_line(frame));
    }
    text
}

/// Metadata, and what is known of the test beside it.
fn properties(test: &TestRecord) -> Vec<(String, String)> {
    let mut properties = Vec::new();
    if let Value::Map(entries) = &test.meta {
        let pair = |(key, value): &(Value, Value)| {
            (one_line(&key.to_string()), one_line(&value.to_string()))
        };
        properties.extend(entries.iter().map(pair));
    }
    if test.details.attempts > 1 {
        let attempts = test.details.attempts.to_string();
        properties.push(("attempts".to_owned(), attempts));
    }
    if let Some(reason) = &test.details.expected_failure {
        properties.push(("expected_failure".to_owned(), one_line(reason)));
    }
    properties
}

/// A name that is safe as a file's name, and within `[[ATTACHMENT|…]]`.
fn file_name(name: &str) -> String {
    let safe = |character: char| match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | '_' => character,
        _ => '_',
    };
    let name: String = name.chars().map(safe).take(MAX_FILE_NAME).collect();
    name.trim_start_matches('.').to_owned()
}
