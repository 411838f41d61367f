//! The streams of a VM that are open, which a snapshot refuses and a test may list.

use crate::lock::lock;
use crate::resource::ResourceId;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

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
pub(crate) struct OpenStreams(Mutex<BTreeMap<ResourceId, OpenStream>>);

#[derive(Debug)]
struct OpenStream {
    subject: String,
    site: Site,
    reads_guest: bool,
    /// Everything was handed out, and nothing more will come.
    at_end: Arc<AtomicBool>,
}

impl OpenStreams {
    /// Adds a stream that reads something in the guest, until it is removed.
    pub(crate) fn add(&self, id: ResourceId, subject: &str, site: &Site) {
        self.insert(id, subject, site, Arc::default(), true);
    }

    /// The same, until it is at its end.
    pub(crate) fn add_until_end(
        &self,
        id: ResourceId,
        subject: &str,
        site: &Site,
        at_end: Arc<AtomicBool>,
    ) {
        self.insert(id, subject, site, at_end, true);
    }

    /// Adds a stream of what the harness itself has, until it is at its end. It may continue with the next guest.
    pub(crate) fn add_of_host(
        &self,
        id: ResourceId,
        subject: &str,
        site: &Site,
        at_end: Arc<AtomicBool>,
    ) {
        self.insert(id, subject, site, at_end, false);
    }

    fn insert(
        &self,
        id: ResourceId,
        subject: &str,
        site: &Site,
        at_end: Arc<AtomicBool>,
        reads_guest: bool,
    ) {
        let open = OpenStream {
            subject: subject.to_owned(),
            site: site.clone(),
            reads_guest,
            at_end,
        };
        lock(&self.0).insert(id, open);
    }

    /// The guest has ended, and with it what streams read in it. They say so when they are read.
    pub(crate) fn guest_ended(&self) {
        lock(&self.0).retain(|_, open| !open.reads_guest);
    }

    /// Removes a stream. Removed already is fine.
    pub(crate) fn remove(&self, id: ResourceId) {
        lock(&self.0).remove(&id);
    }

    /// The number of streams that are open and not at their end; `has_guest`: there is a guest that they can read.
    pub(crate) fn count(&self, has_guest: bool) -> usize {
        let open = lock(&self.0);
        let counted = open.values().filter(|open| open.may_read());
        counted
            .filter(|open| has_guest || !open.reads_guest)
            .count()
    }

    /// Each with where it was made: ``tail of "/x" of vm `web` (a.test.lua:3)``.
    pub(crate) fn list(&self) -> Vec<String> {
        let open = lock(&self.0);
        let shown = open
            .values()
            .filter(|open| open.may_read())
            .map(|open| format!("{} ({})", open.subject, open.site));
        shown.collect()
    }
}

impl OpenStream {
    /// Whether more may come of it.
    fn may_read(&self) -> bool {
        !self.at_end.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_guest_ends_what_reads_it() {
        let open = OpenStreams::default();
        let site = |line| Site {
            file: "a.test.lua".to_owned(),
            line,
        };
        let at_end = Arc::<AtomicBool>::default();
        open.add_until_end(ResourceId::next(), "output", &site(3), Arc::clone(&at_end));
        at_end.store(true, Ordering::Release);
        open.add(ResourceId::next(), "tail", &site(1));
        let console = ResourceId::next();
        let console_end = Arc::<AtomicBool>::default();
        open.add_of_host(console, "console", &site(2), Arc::clone(&console_end));
        assert_eq!(open.count(true), 2, "one is at its end");
        assert_eq!(open.count(false), 1, "the machine is off");
        open.guest_ended();
        assert_eq!(open.list(), ["console (a.test.lua:2)"]);
        console_end.store(true, Ordering::Release);
        assert!(open.list().is_empty(), "the console is at its end");
        open.remove(console);
        assert_eq!(open.count(true), 0);
    }
}
