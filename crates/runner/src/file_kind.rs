//! Kinds of files, by the ends of their names.

/// How the names of test files end.
const TEST_SUFFIX: &str = ".test.lua";

/// How the names of fixtures end.
pub const FIXTURE_SUFFIX: &str = ".fixture.lua";

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// `*.test.lua`.
    Tests,
    /// `*.fixture.lua`.
    Fixtures,
}

impl FileKind {
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Tests => TEST_SUFFIX,
            Self::Fixtures => FIXTURE_SUFFIX,
        }
    }
}
