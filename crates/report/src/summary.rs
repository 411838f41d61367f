//! The end of the report for people: what did not pass, by name and place, and what was slow.

use crate::record::{CompletedFile, TestRecord};
use crate::styles::Styles;
use crate::text::{address, first_line, place, seconds};
use provium_events::printable::one_line;
use provium_events::{FileStatus, TestStatus, counted};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Slow tests that are listed.
const SLOWEST: usize = 10;

/// Tests of one kind, file and reason that are listed by name; of more, the first ones.
const LISTED: usize = 10;

/// What is repeated at the end of a run.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    failed: Vec<FailedItem>,
    flaky: Vec<String>,
    /// Names by reason.
    skipped: BTreeMap<String, Vec<String>>,
    interrupted: Vec<String>,
    not_run: Vec<String>,
    slow: Vec<(u64, String)>,
    /// Whether a failed or flaky test depends on the seed.
    pub(crate) depends_on_seed: bool,
}

/// A failed test or file.
#[derive(Debug)]
struct FailedItem {
    name: String,
    /// Where and why.
    what: String,
}

impl Summary {
    /// Takes note of a file that has ended. Tests that took at least `slow_ns` are slow.
    pub(crate) fn add(&mut self, completed: &CompletedFile, slow_ns: u64) {
        let file = &completed.file;
        let mut no_pass = false;
        let mut not_run: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for test in &file.tests {
            let name = address(&file.path, &test.name);
            if test.duration_ns >= slow_ns {
                self.slow.push((test.duration_ns, name.clone()));
            }
            let reason = test.message.as_deref().unwrap_or_default();
            match test.status {
                TestStatus::Failed => {
                    no_pass = true;
                    let what = what(reason, test);
                    self.failed.push(FailedItem { name, what });
                }
                TestStatus::Passed if test.is_flaky() => {
                    no_pass = true;
                    self.flaky.push(flaky(&name, test));
                }
                TestStatus::Passed => {}
                TestStatus::Skipped => {
                    let skipped = self.skipped.entry(first_line(reason)).or_default();
                    skipped.push(name);
                }
                TestStatus::Interrupted => self.interrupted.push(name),
                TestStatus::NotRun => not_run.entry(reason).or_default().push(&test.name),
            }
        }
        self.add_file(completed, &not_run);
        self.depends_on_seed |= no_pass && file.used_seed;
    }

    fn add_file(&mut self, completed: &CompletedFile, not_run: &BTreeMap<&str, Vec<&str>>) {
        let path = &completed.file.path;
        let error = completed.error.as_ref();
        for (reason, names) in not_run {
            let listed = names.iter().take(LISTED);
            let reason = first_line(reason);
            self.not_run
                .extend(listed.map(|name| format!("{}: {reason}", address(path, name))));
            let more = names.len().saturating_sub(LISTED);
            if more > 0 {
                let more = counted(u64::try_from(more).unwrap_or(u64::MAX), "more test");
                self.not_run
                    .push(format!("{}: {more}: {reason}", one_line(path)));
            }
        }
        match completed.status {
            FileStatus::Passed => {}
            FileStatus::NotRun if not_run.is_empty() => {
                let reason = error.map(|error| first_line(&error.message));
                let reason = reason.unwrap_or_default();
                self.not_run.push(format!("{}: {reason}", one_line(path)));
            }
            FileStatus::Failed | FileStatus::TimedOut | FileStatus::Crashed => {
                if let Some(error) = error {
                    let at = error.location.as_ref().map(place);
                    self.failed.push(FailedItem {
                        name: one_line(path),
                        what: placed(at, &error.message),
                    });
                }
            }
            FileStatus::Interrupted | FileStatus::NotRun => {}
        }
    }

    /// The text, whole lines; empty if there is nothing to repeat. `terse` leaves out what is not a
    /// failure.
    pub(crate) fn render(&mut self, terse: bool, slow_ns: u64, styles: Styles) -> String {
        let mut out = String::new();
        if !terse {
            if !self.skipped.is_empty() {
                section(&mut out, &styles.warning("skipped"), self.skipped_lines());
            }
            if !self.slow.is_empty() {
                let limit = format!("slowest, over {}", seconds(slow_ns, 0));
                section(&mut out, &styles.warning(&limit), self.slowest());
            }
        }
        for (title, lines) in [
            ("flaky", &mut self.flaky),
            ("not run", &mut self.not_run),
            ("interrupted", &mut self.interrupted),
        ] {
            if !lines.is_empty() {
                section(&mut out, &styles.warning(title), std::mem::take(lines));
            }
        }
        if !self.failed.is_empty() {
            let lines = self.failed.iter().map(|failed| {
                let FailedItem { name, what } = failed;
                format!("{name}\n    {what}")
            });
            section(&mut out, &styles.failure("failed"), lines.collect());
        }
        out
    }

    fn slowest(&mut self) -> Vec<String> {
        self.slow.sort_by(|one, other| other.cmp(one));
        let slowest = self.slow.iter().take(SLOWEST);
        slowest
            .map(|(took, name)| format!("{:>7} {name}", seconds(*took, 1)))
            .collect()
    }

    fn skipped_lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (reason, names) in &self.skipped {
            let listed = names.iter().take(LISTED);
            lines.extend(listed.map(|name| format!("{name}: {reason}")));
            let more = names.len().saturating_sub(LISTED);
            if more > 0 {
                lines.push(format!("and {more} more: {reason}"));
            }
        }
        lines
    }
}

fn section(out: &mut String, title: &str, lines: Vec<String>) {
    let _ = writeln!(out, "{title}:");
    for line in lines {
        let _ = writeln!(out, "  {line}");
    }
}

/// Where and why a test failed.
fn what(reason: &str, test: &TestRecord) -> String {
    placed(test.details.location.as_ref().map(place), reason)
}

/// A message behind its place, which many messages begin with.
fn placed(place: Option<String>, message: &str) -> String {
    let message = first_line(message);
    match place {
        Some(place) if message.starts_with(&format!("{place}:")) => message,
        Some(place) => format!("{place}: {message}"),
        None => message,
    }
}

fn flaky(name: &str, test: &TestRecord) -> String {
    let mut line = format!("{name} passed at attempt {}", test.details.attempts);
    for attempt in &test.failed_attempts {
        let place = attempt.location.as_ref().map(place);
        let reason = placed(place, &attempt.reason);
        let _ = write!(line, "\n    attempt {}: {reason}", attempt.number);
    }
    line
}
