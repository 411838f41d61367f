//! The streams of a VM that are open, which a snapshot refuses and a test may list.

use crate::lock::lock;
use crate::resource::ResourceId;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;

/// Where in a test a stream was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The file, as the author names it.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// The streams of a VM that are open, oldest first.
#[derive(Debug, Default)]
pub(crate) struct OpenStreams(Mutex<BTreeMap<ResourceId, (String, Site)>>);

impl OpenStreams {
    /// Adds a stream.
    pub(crate) fn add(&self, id: ResourceId, subject: &str, site: &Site) {
        lock(&self.0).insert(id, (subject.to_owned(), site.clone()));
    }

    /// Removes a stream. Removed already is fine.
    pub(crate) fn remove(&self, id: ResourceId) {
        lock(&self.0).remove(&id);
    }

    /// The number of open streams.
    pub(crate) fn count(&self) -> usize {
        lock(&self.0).len()
    }

    /// Each with where it was made: ``tail of "/x" of vm `web` (a.test.lua:3)``.
    pub(crate) fn list(&self) -> Vec<String> {
        let open = lock(&self.0);
        let shown = open
            .values()
            .map(|(subject, site)| format!("{subject} ({site})"));
        shown.collect()
    }
}
