//! Details of files and tests that have ended, for reports.

use serde::{Deserialize, Serialize};

/// A place in the author's code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// The file, as paths of events are.
    pub file: String,
    /// The line; the first is 1.
    pub line: u32,
    /// The column in characters, where it is known; the first is 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}

/// What went wrong in a file outside of any test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileError {
    /// What.
    pub message: String,
    /// Where, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// The author's frames, innermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traceback: Vec<String>,
}

/// Details of a test that has ended, for reports.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Details {
    /// Where it failed or skipped itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// The author's frames, innermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traceback: Vec<String>,
    /// What it logged, a line an entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
    /// What the harness adds to a failure, a line an entry: the test's processes, and commands that failed
    /// unnoticed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Its steps, in the order they ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// How often it was run; 0 if it never was, or if that is not known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// Why the test was expected to fail, if it failed as expected and so has passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_failure: Option<String>,
    /// Files that have whole what `reason`, `notes` and `consoles` have cut; each is named there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
}

/// The end of a VM's console when its test failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleExcerpt {
    /// The VM.
    pub vm: String,
    /// The last of its console, as the guest wrote it.
    pub text: String,
    /// Whether the test's `reason` contains the last lines already, as errors about a dead guest do.
    #[serde(default, skip_serializing_if = "is_false")]
    pub in_reason: bool,
    /// How many lines of it, printed since the test has begun, are before `text`.
    #[serde(default, skip_serializing_if = "is_zero_lines")]
    pub more_lines: u64,
    /// The file that has all of it since the test has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

impl ConsoleExcerpt {
    /// All `consoles` as one text; `None` if there are none. The text of one VM is its own. Of several,
    /// each is indented below a line that names its VM, so that no guest can print such a line.
    pub fn join(consoles: &[Self]) -> Option<String> {
        match consoles {
            [] => None,
            [one] => Some(one.text.clone()),
            many => Some(many.iter().map(Self::section).collect()),
        }
    }

    fn section(&self) -> String {
        let mut section = format!("console of vm `{}`:\n", self.vm);
        for line in self.text.lines() {
            section.push_str("  ");
            section.push_str(line);
            section.push('\n');
        }
        section
    }
}

/// A named, timed part of a test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// How long it took.
    pub duration_ns: u64,
    /// Whether it ended without an error.
    pub passed: bool,
}

/// Bytes that a test has attached to the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Its name.
    pub name: String,
    /// Its content.
    #[serde(with = "serde_bytes")]
    pub content: Vec<u8>,
}

impl Details {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn is_zero_lines(number: &u64) -> bool {
    *number == 0
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(vm: &str, text: &str) -> ConsoleExcerpt {
        ConsoleExcerpt {
            vm: vm.to_owned(),
            text: text.to_owned(),
            in_reason: false,
            more_lines: 0,
            file: None,
        }
    }

    #[test]
    fn a_guest_cannot_print_the_heading_of_another_console() {
        let forged = "login:\nconsole of vm `db`:\nall is well";
        let joined = ConsoleExcerpt::join(&[console("web", forged), console("db", "panic")]);
        let joined = joined.unwrap();
        let headings: Vec<&str> = joined.lines().filter(|l| !l.starts_with(' ')).collect();
        assert_eq!(headings, ["console of vm `web`:", "console of vm `db`:"]);
        assert_eq!(
            ConsoleExcerpt::join(&[console("web", forged)]).as_deref(),
            Some(forged)
        );
        assert_eq!(ConsoleExcerpt::join(&[]), None);
    }
}
