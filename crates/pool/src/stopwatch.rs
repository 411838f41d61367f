//! How long a file or one of its tests has waited for other files.

use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, futures::Notified};

/// Measures how long a file or one of its tests has waited for other files. Clones share their state.
#[derive(Clone, Default)]
pub struct Stopwatch(Arc<Watch>);

#[derive(Default)]
struct Watch {
    state: Mutex<WaitTime>,
    /// Of the file; it is stopped with each of its tests'.
    parent: Option<Stopwatch>,
    /// One for the whole file: notified when any of its stopwatches stops or resumes.
    changed: Arc<Notify>,
}

#[derive(Default)]
struct WaitTime {
    /// Waits in progress, and since when there is one.
    waits: usize,
    since: Option<Instant>,
    before: Duration,
}

impl Stopwatch {
    pub(crate) fn child(&self) -> Self {
        Self(Arc::new(Watch {
            state: Mutex::default(),
            parent: Some(self.clone()),
            changed: Arc::clone(&self.0.changed),
        }))
    }

    /// How long it has been stopped, the current wait included.
    pub fn stopped(&self) -> Duration {
        let state = self.0.state.lock();
        state.before + state.since.map(|since| since.elapsed()).unwrap_or_default()
    }

    /// Whether it is stopped.
    pub fn is_stopped(&self) -> bool {
        self.0.state.lock().waits > 0
    }

    /// Waits until any stopwatch of the file stops or resumes.
    pub fn changed(&self) -> Notified<'_> {
        self.0.changed.notified()
    }

    /// Stops it, and those above it, until the guard is dropped.
    pub(crate) fn stop(&self) -> StoppedGuard {
        let mut watches = vec![self.clone()];
        while let Some(parent) = watches.last().and_then(|watch| watch.0.parent.clone()) {
            watches.push(parent);
        }
        for watch in &watches {
            let mut state = watch.0.state.lock();
            state.waits += 1;
            state.since.get_or_insert_with(Instant::now);
        }
        self.0.changed.notify_waiters();
        StoppedGuard(watches)
    }
}

/// Stopwatches that are stopped until this is dropped.
pub(crate) struct StoppedGuard(Vec<Stopwatch>);

impl Drop for StoppedGuard {
    fn drop(&mut self) {
        for watch in &self.0 {
            let mut state = watch.0.state.lock();
            state.waits -= 1;
            if state.waits == 0
                && let Some(since) = state.since.take()
            {
                state.before += since.elapsed();
            }
        }
        if let Some(watch) = self.0.first() {
            watch.0.changed.notify_waiters();
        }
    }
}

impl fmt::Debug for Stopwatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stopwatch").field(&self.stopped()).finish()
    }
}
