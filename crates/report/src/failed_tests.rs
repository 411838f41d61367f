//! Which tests did not pass, for a later run of them.

use provium_events::{Event, FileStatus};
use std::collections::{BTreeMap, BTreeSet};

/// Tests that did not pass, by their files as events name them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FailedTests {
    files: BTreeMap<String, FailedFile>,
}

/// What did not pass of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FailedFile {
    /// The file failed outside of any test, so all its tests must run again.
    pub whole: bool,
    /// Tests that failed, were interrupted or did not run.
    pub names: BTreeSet<String>,
}

impl FailedTests {
    /// Takes note of an event. What passes in a later run has failed all the same.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::TestFailed { path, name, .. }
            | Event::TestInterrupted { path, name, .. }
            | Event::TestNotRun { path, name, .. } => {
                self.file(path).names.insert(name.clone());
            }
            Event::FileCompleted {
                path,
                status,
                error,
                ..
            } => {
                let failed = !matches!(status, FileStatus::Passed | FileStatus::Interrupted);
                let known = self
                    .files
                    .get(path)
                    .is_some_and(|file| !file.names.is_empty());
                let outside = *status != FileStatus::NotRun && error.is_some();
                if failed && (outside || !known) {
                    self.file(path).whole = true;
                }
            }
            _ => {}
        }
    }

    /// Whether all passed.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The files, in the order of their names.
    pub fn files(&self) -> impl Iterator<Item = (&str, &FailedFile)> {
        self.files.iter().map(|(path, file)| (path.as_str(), file))
    }

    fn file(&mut self, path: &str) -> &mut FailedFile {
        self.files.entry(path.to_owned()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use provium_events::FileError;

    fn not_run(path: &str, name: &str) -> Event {
        Event::TestNotRun {
            path: path.to_owned(),
            name: name.to_owned(),
            reason: String::new(),
        }
    }

    fn completed(path: &str, status: FileStatus, message: Option<&str>) -> Event {
        Event::FileCompleted {
            path: path.to_owned(),
            status,
            duration_ns: 0,
            error: message.map(|message| FileError {
                message: message.to_owned(),
                location: None,
                traceback: Vec::new(),
            }),
        }
    }

    #[test]
    fn a_file_is_taken_whole_where_its_tests_are_not_known() {
        let mut failed = FailedTests::default();
        for event in [
            completed("passed", FileStatus::Passed, None),
            not_run("tests", "one"),
            completed("tests", FileStatus::NotRun, Some("interrupted")),
            completed("nothing known", FileStatus::NotRun, Some("interrupted")),
            not_run("top level", "one"),
            completed("top level", FileStatus::Failed, Some("an error")),
            not_run("fail fast", "two"),
            completed("fail fast", FileStatus::Interrupted, None),
        ] {
            failed.event(&event);
        }
        let all: Vec<_> = failed
            .files()
            .map(|(path, file)| (path, file.whole, file.names.len()))
            .collect();
        assert_eq!(
            all,
            [
                ("fail fast", false, 1),
                ("nothing known", true, 0),
                ("tests", false, 1),
                ("top level", true, 1),
            ]
        );
    }
}
