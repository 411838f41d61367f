//! Runs a test file, or lists its tests.

pub(crate) mod list_file;
pub(crate) mod run_file;
