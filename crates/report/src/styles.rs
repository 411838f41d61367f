//! Styles of words, where colours are wanted.

use anstyle::{AnsiColor, Style};

/// Styles words, or leaves them plain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Styles {
    enabled: bool,
}

impl Styles {
    pub(crate) fn new(enabled: bool) -> Self {
        Self { enabled }
    }

    pub(crate) fn is_enabled(self) -> bool {
        self.enabled
    }

    pub(crate) fn success(self, word: &str) -> String {
        self.apply(AnsiColor::Green.on_default().bold(), word)
    }

    pub(crate) fn failure(self, word: &str) -> String {
        self.apply(AnsiColor::Red.on_default().bold(), word)
    }

    pub(crate) fn warning(self, word: &str) -> String {
        self.apply(AnsiColor::Yellow.on_default().bold(), word)
    }

    pub(crate) fn dim(self, word: &str) -> String {
        self.apply(Style::new().dimmed(), word)
    }

    fn apply(self, style: Style, word: &str) -> String {
        if self.enabled {
            format!("{style}{word}{style:#}")
        } else {
            word.to_owned()
        }
    }
}
