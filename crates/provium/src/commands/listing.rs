//! Lists the tests of files without booting anything, for `list` and for runs with a selection.

use crate::hiargs::Context;
use crate::lua_backend::LuaFiles;
use provium_events::Sink;
use provium_lab::Environment;
use provium_lua::{ChunkError, TestListing, TestSelection, list_file};
use provium_runner::{Stop, TestFile};
use std::sync::Arc;
use std::time::Duration;

/// Time for a file's top level.
const LIMIT: Duration = Duration::from_secs(60);

/// Lists files, with the tests that are selected marked.
pub(super) struct Lister {
    files: LuaFiles,
    stop: Stop,
}

impl Lister {
    pub(super) fn new(
        context: &Context,
        selection: TestSelection,
        stop: Stop,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        let profiles = context.config.profiles.iter();
        let profiles = profiles.map(|profile| profile.unresolved()).collect();
        let environment = Environment::without_machines(profiles, Sink::discard(), runtime);
        Self {
            files: LuaFiles {
                selection,
                retries: 0,
                shuffle: None,
                environment: Arc::new(environment),
            },
            stop,
        }
    }

    /// The tests that `file` declares. Runs its top level on this thread.
    pub(super) fn list(&self, file: TestFile) -> Result<TestListing, ChunkError> {
        let job = self
            .files
            .job(file, Sink::discard(), self.stop.clone(), Some(LIMIT));
        list_file(&job)
    }

    /// Whether a test of `file` may be selected. A file that cannot be listed to its end may declare
    /// further tests when it runs; one that was named with a test or line reports itself that it has none.
    pub(super) fn may_match(&self, file: &TestFile) -> bool {
        if !file.names.is_empty() || !file.lines.is_empty() {
            return true;
        }
        match self.list(file.clone()) {
            Ok(listing) => {
                listing.partial.is_some() || listing.tests.iter().any(|test| test.selected)
            }
            Err(_) => true,
        }
    }
}
