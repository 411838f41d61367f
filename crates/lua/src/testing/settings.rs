//! What a file sets for all its tests: `provium.timeout` and its like.

use std::cell::Cell;
use std::time::Duration;

/// What a file sets for all its tests.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    /// Per test, unless the test's meta says otherwise.
    pub(crate) timeout: Cell<Option<Duration>>,
    /// How often a failed test is tried again.
    pub(crate) retries: Cell<Option<u32>>,
    /// Whether each test finds the file's VMs as the top level left them.
    pub(crate) reset_between_tests: Cell<bool>,
    /// Whether tests run side by side, each on a copy of the file's lab.
    pub(crate) parallel: Cell<bool>,
}
