//! How long a file or one of its tests has waited for other files.

use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, futures::Notified};

/// Measures how long a file or one of its tests has waited for other files. Clones share their state.
#[derive(Clone, Default)]
pub struct Stopwatch(Arc<Watch>);

/// Why a stopwatch is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The file waits for what other files hold of the pool.
    Pool,
    /// The harness makes something that the file needs, such as the image of a disk.
    Work,
}

#[derive(Default)]
struct Watch {
    state: Mutex<WaitTimes>,
    /// Of the file; it is stopped with each of its tests'.
    parent: Option<Stopwatch>,
    /// One for the whole file: notified when any of its stopwatches stops or resumes.
    changed: Arc<Notify>,
}

/// For any reason, and for each.
#[derive(Default)]
struct WaitTimes {
    any: WaitTime,
    pool: WaitTime,
    work: WaitTime,
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
        self.0.state.lock().any.sum()
    }

    /// How long it has been stopped for that reason, the current wait included.
    pub fn stopped_for(&self, reason: StopReason) -> Duration {
        self.0.state.lock().of(reason).sum()
    }

    /// Whether it is stopped.
    pub fn is_stopped(&self) -> bool {
        self.0.state.lock().any.waits > 0
    }

    /// Waits until any stopwatch of the file stops or resumes.
    pub fn changed(&self) -> Notified<'_> {
        self.0.changed.notified()
    }

    /// Stops it, and those above it, until the guard is dropped.
    pub(crate) fn stop(&self, reason: StopReason) -> StoppedGuard {
        let mut watches = vec![self.clone()];
        while let Some(parent) = watches.last().and_then(|watch| watch.0.parent.clone()) {
            watches.push(parent);
        }
        for watch in &watches {
            let mut state = watch.0.state.lock();
            state.any.begin();
            state.of(reason).begin();
        }
        self.0.changed.notify_waiters();
        StoppedGuard { watches, reason }
    }
}

impl WaitTimes {
    fn of(&mut self, reason: StopReason) -> &mut WaitTime {
        match reason {
            StopReason::Pool => &mut self.pool,
            StopReason::Work => &mut self.work,
        }
    }
}

impl WaitTime {
    fn begin(&mut self) {
        self.waits += 1;
        self.since.get_or_insert_with(Instant::now);
    }

    fn end(&mut self) {
        self.waits -= 1;
        if self.waits == 0
            && let Some(since) = self.since.take()
        {
            self.before += since.elapsed();
        }
    }

    fn sum(&self) -> Duration {
        self.before + self.since.map(|since| since.elapsed()).unwrap_or_default()
    }
}

/// Stopwatches that are stopped until this is dropped.
pub(crate) struct StoppedGuard {
    watches: Vec<Stopwatch>,
    reason: StopReason,
}

impl Drop for StoppedGuard {
    fn drop(&mut self) {
        for watch in &self.watches {
            let mut state = watch.0.state.lock();
            state.any.end();
            state.of(self.reason).end();
        }
        if let Some(watch) = self.watches.first() {
            watch.0.changed.notify_waiters();
        }
    }
}

impl fmt::Debug for Stopwatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stopwatch").field(&self.stopped()).finish()
    }
}
