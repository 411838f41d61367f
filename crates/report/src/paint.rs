//! Colour, where it is wanted.

/// Puts words in colour, or leaves them as they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint {
    enabled: bool,
}

impl Paint {
    pub(crate) fn new(enabled: bool) -> Self {
        Self { enabled }
    }

    pub(crate) fn is_enabled(self) -> bool {
        self.enabled
    }

    pub(crate) fn good(self, word: &str) -> String {
        self.code("1;32", word)
    }

    pub(crate) fn bad(self, word: &str) -> String {
        self.code("1;31", word)
    }

    pub(crate) fn odd(self, word: &str) -> String {
        self.code("1;33", word)
    }

    pub(crate) fn faint(self, word: &str) -> String {
        self.code("2", word)
    }

    fn code(self, code: &str, word: &str) -> String {
        if self.enabled {
            format!("\x1b[{code}m{word}\x1b[0m")
        } else {
            word.to_owned()
        }
    }
}
