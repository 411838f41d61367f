//! The test of a file that runs now, for messages.

use crate::lock::lock;
use std::sync::{Arc, Mutex};

/// Its name, while there is one. Cloning gives another handle on the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct CurrentTest(Arc<Mutex<Option<String>>>);

impl CurrentTest {
    /// From now on this test runs; `None`: none, or several at a time.
    pub(crate) fn set(&self, name: Option<&str>) {
        *lock(&self.0) = name.map(str::to_owned);
    }

    pub(crate) fn name(&self) -> Option<String> {
        lock(&self.0).clone()
    }
}
