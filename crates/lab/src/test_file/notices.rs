//! Notices to the user, from below the tests: damage in the cache, waits for other runs.

use crate::test_file::context::TestFileContext;
use provium_events::{Notice, NoticeSubject};

impl TestFileContext {
    /// Warns the user of something that was wrong and does not fail the test.
    pub(crate) fn warn(&self, about: NoticeSubject, text: impl Into<String>) {
        let notice = Notice::warning(about, text).for_file(&self.path);
        self.environment.sink().notify(notice);
    }

    /// Passes on what the cache reports about `what`.
    pub(crate) fn notify_of_cache(
        &self,
        about: NoticeSubject,
        what: &str,
        notice: provium_store::Notice<'_>,
    ) {
        let text = notice.describe(what);
        let notice = match notice {
            provium_store::Notice::Waiting { .. } => Notice::info(about, text),
            provium_store::Notice::Damaged { .. } => Notice::warning(about, text),
        };
        self.environment.sink().notify(notice.for_file(&self.path));
    }
}
