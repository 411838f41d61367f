//! What the user should know beside the results of tests: damage that was repaired, waits for other
//! runs, long steps.

use serde::{Deserialize, Serialize};

/// A message for the user that is not the result of a test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Whether something is wrong.
    pub level: NoticeLevel,
    /// What it is about.
    pub about: NoticeSubject,
    /// The message: one sentence without a full stop.
    pub text: String,
    /// The test file that it concerns; `None`: the whole run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// How serious a notice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeLevel {
    /// A step that takes a while, or a wait: nothing is wrong.
    Info,
    /// Something was damaged or could not be used, and the run continues without it.
    Warning,
}

/// What a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeSubject {
    /// What guests boot from: kernels, initial RAM file systems, the default guest.
    Image,
    /// A boot template.
    Template,
    /// A fixture in the cache.
    Fixture,
    /// A running guest.
    Guest,
    /// The code of a test file.
    Test,
}

impl Notice {
    /// A step that takes a while.
    pub fn info(about: NoticeSubject, text: impl Into<String>) -> Self {
        Self::new(NoticeLevel::Info, about, text.into())
    }

    /// Something that was wrong and did not stop the run.
    pub fn warning(about: NoticeSubject, text: impl Into<String>) -> Self {
        Self::new(NoticeLevel::Warning, about, text.into())
    }

    /// The same, for a test file.
    pub fn for_file(self, file: impl Into<String>) -> Self {
        Self {
            file: Some(file.into()),
            ..self
        }
    }

    fn new(level: NoticeLevel, about: NoticeSubject, text: String) -> Self {
        Self {
            level,
            about,
            text,
            file: None,
        }
    }
}
