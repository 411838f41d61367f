//! What can be wrong with the paths of a run.

use camino::Utf8PathBuf;

/// Why the files of a run could not be found.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// No such path.
    #[error("no such file or directory: `{path}`")]
    Missing {
        /// As it was given.
        path: String,
    },
    /// No such fixture.
    #[error("fixture `{path}` not found in any test root")]
    NoFixture {
        /// As it was given.
        path: String,
    },
    /// A path without a character in it.
    #[error("an empty path was given")]
    Empty,
    /// What has the name of a test or fixture cannot be read as a file.
    #[error("`{path}` is {what}, not a file")]
    NotAFile {
        /// Which.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// The path is a file of another kind.
    #[error("`{path}` is not a test file; the names of test files end in `.test.lua`")]
    NotATest {
        /// As it was given.
        path: String,
    },
    /// The path is a fixture.
    #[error(
        "`{path}` is a fixture; it is built when a test asks for it, or by `provium fixture build`"
    )]
    Fixture {
        /// As it was given.
        path: String,
    },
    /// The path is not a fixture.
    #[error("`{path}` is not a fixture; the names of fixtures end in `.fixture.lua`")]
    NotAFixture {
        /// As it was given.
        path: String,
    },
    /// A line or a test of a directory.
    #[error("`{path}` selects a line or test of a directory; only files have lines and tests")]
    PlaceInDirectory {
        /// As it was given.
        path: String,
    },
    /// A name that is not UTF-8.
    #[error("the name of `{path}` is not UTF-8")]
    NotUtf8 {
        /// As well as it can be shown.
        path: String,
    },
    /// A directory or file could not be read.
    #[error("cannot read `{path}`")]
    Unreadable {
        /// Which.
        path: Utf8PathBuf,
        /// Why.
        source: std::io::Error,
    },
}
