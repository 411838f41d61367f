//! Waits of a file for the pool: they stop the file's clocks, and show the pool that the file does nothing
//! else meanwhile.
//!
//! A test that waits until another file returns its grant is not slow, so that time does not count
//! against its limits: the [`Stopwatch`] of the test and that of its file are stopped. They run
//! while the file waits for what it holds itself, since only its own limits can then end the wait.
//!
//! Which of a file's tasks waits is known only where it runs. So the task sets itself as the [`Caller`] of
//! what it awaits; work that moves to another runtime keeps its caller (`apart`).

use crate::budget::{Budget, Need};
use crate::lock::lock;
use futures_util::poll;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, futures::Notified};

/// How often it is checked again which files a wait depends on.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

tokio::task_local! {
    static CALLER: Caller;
}

/// The activity of a running file, for its supervisors. Clones share their state.
#[derive(Clone, Debug, Default)]
pub struct FileWatch {
    caller: Caller,
    alive: Arc<Alive>,
}

/// When the file's thread last sent its heartbeat.
#[derive(Debug)]
struct Alive {
    begun: Instant,
    /// Milliseconds since then.
    beat: AtomicU64,
}

/// The caller on whose behalf work is done: its clock, and its file's activity. Clones share their state.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    stopwatch: Stopwatch,
    activity: Activity,
}

/// Measures how long a file or one of its tests has waited for other files. Clones share their state.
#[derive(Clone, Default)]
pub struct Stopwatch(Arc<Watch>);

#[derive(Default)]
struct Watch {
    state: Mutex<Stopped>,
    /// Of the file, whose waits count as well.
    parent: Option<Stopwatch>,
    /// One for the whole file: notified when any of its stopwatches stops or resumes.
    changed: Arc<Notify>,
}

#[derive(Default)]
struct Stopped {
    /// Waits in progress, and since when there is one.
    waits: usize,
    since: Option<Instant>,
    before: Duration,
}

/// Counts the calls of a file that may still complete by themselves. Clones share their state.
#[derive(Clone, Debug, Default)]
pub struct Activity(Arc<AtomicUsize>);

/// A call of a file; it is active until this is dropped.
#[derive(Debug)]
pub struct Active(Activity);

impl FileWatch {
    /// The file's own caller: what its tests have in common.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// How long the file has waited for other files.
    pub fn waited(&self) -> Duration {
        self.caller.stopwatch.stopped()
    }

    /// The file's activity.
    pub fn activity(&self) -> &Activity {
        &self.caller.activity
    }

    /// The file's thread is not stuck.
    pub fn beat(&self) {
        let now = self.alive.begun.elapsed().as_millis();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        self.alive.beat.store(now, Ordering::Relaxed);
    }

    /// How long ago it last sent its heartbeat.
    pub fn silent_for(&self) -> Duration {
        let beat = Duration::from_millis(self.alive.beat.load(Ordering::Relaxed));
        self.alive.begun.elapsed().saturating_sub(beat)
    }
}

impl Default for Alive {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            beat: AtomicU64::new(0),
        }
    }
}

impl Caller {
    /// A part of it with a clock of its own, that of a test.
    pub fn child(&self) -> Self {
        Self {
            stopwatch: self.stopwatch.child(),
            activity: self.activity.clone(),
        }
    }

    /// Its clock.
    pub fn stopwatch(&self) -> &Stopwatch {
        &self.stopwatch
    }

    /// Its file's activity.
    pub fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Does `work` on its behalf.
    pub fn enter<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        CALLER.scope(self.clone(), work)
    }

    /// On whose behalf the current work is done.
    pub(crate) fn current() -> Option<Self> {
        CALLER.try_with(Self::clone).ok()
    }
}

impl Stopwatch {
    fn child(&self) -> Self {
        Self(Arc::new(Watch {
            state: Mutex::default(),
            parent: Some(self.clone()),
            changed: Arc::clone(&self.0.changed),
        }))
    }

    /// How long it has been stopped, the current wait included.
    pub fn stopped(&self) -> Duration {
        let state = lock(&self.0.state);
        state.before + state.since.map(|since| since.elapsed()).unwrap_or_default()
    }

    /// Whether it is stopped.
    pub fn is_stopped(&self) -> bool {
        lock(&self.0.state).waits > 0
    }

    /// Waits until any stopwatch of the file stops or resumes.
    pub fn changed(&self) -> Notified<'_> {
        self.0.changed.notified()
    }

    fn stop(&self) -> Standstill {
        let mut watches = vec![self.clone()];
        while let Some(parent) = watches.last().and_then(|watch| watch.0.parent.clone()) {
            watches.push(parent);
        }
        for watch in &watches {
            let mut state = lock(&watch.0.state);
            state.waits += 1;
            state.since.get_or_insert_with(Instant::now);
        }
        self.0.changed.notify_waiters();
        Standstill(watches)
    }
}

/// Lasts until it is dropped.
struct Standstill(Vec<Stopwatch>);

impl Drop for Standstill {
    fn drop(&mut self) {
        for watch in &self.0 {
            let mut state = lock(&watch.0.state);
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

impl Activity {
    /// A call begins.
    pub fn begin(&self) -> Active {
        self.0.fetch_add(1, Ordering::Relaxed);
        Active(self.clone())
    }

    /// Whether every open call of the file waits for the pool.
    pub fn is_idle(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A call of a file that waits for the pool, and so cannot complete by itself.
struct Waits(Activity);

impl Waits {
    fn begin(activity: &Activity) -> Option<Self> {
        let less = |active: usize| active.checked_sub(1);
        let ordering = Ordering::Relaxed;
        let begun = activity.0.fetch_update(ordering, ordering, less);
        // Work that does not belong to a call is not counted.
        begun.ok().map(|_| Self(activity.clone()))
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits for `granted`, a request of `file` for `need`.
pub(crate) async fn for_pool<T>(
    budget: &dyn Budget,
    file: &str,
    need: Need,
    granted: impl Future<Output = T>,
) -> T {
    let Some(caller) = Caller::current() else {
        return granted.await;
    };
    // Before the request is made: the pool checks all waiting files when it accepts one.
    let _waits = Waits::begin(&caller.activity);
    let mut granted = pin!(granted);
    if let Poll::Ready(granted) = poll!(granted.as_mut()) {
        return granted;
    }
    let mut standstill = None;
    loop {
        if !budget.waits_for_others(file, need) {
            standstill = None;
        } else if standstill.is_none() {
            standstill = Some(caller.stopwatch.stop());
        }
        tokio::select! {
            biased;
            granted = &mut granted => return granted,
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{BudgetError, Grant};
    use std::pin::Pin;

    /// Holds everything back; whether that is for others can be set.
    struct Full(Mutex<bool>);

    impl Budget for Full {
        fn acquire<'a>(
            &'a self,
            _file: &'a str,
            _need: Need,
        ) -> Pin<Box<dyn Future<Output = Result<Grant, BudgetError>> + Send + 'a>> {
            Box::pin(std::future::pending())
        }

        fn try_acquire(&self, _file: &str, _need: Need) -> Option<Grant> {
            None
        }

        fn waits_for_others(&self, _file: &str, _need: Need) -> bool {
            *lock(&self.0)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_for_others_stops_the_clocks_of_the_test_and_its_file() {
        let file = FileWatch::default();
        let (test, other) = (file.caller().child(), file.caller().child());
        let budget = Full(Mutex::new(true));
        let call = file.activity().begin();
        {
            let need = Need::default();
            let wait = for_pool(&budget, "a", need, budget.acquire("a", need));
            let mut wait = pin!(test.enter(wait));
            assert!(poll!(wait.as_mut()).is_pending());
            assert!(test.stopwatch().is_stopped());
            assert!(file.caller().stopwatch().is_stopped());
            assert!(!other.stopwatch().is_stopped());
            assert!(file.activity().is_idle(), "its only call waits");
            // From here on it waits for what it holds itself.
            *lock(&budget.0) = false;
            let looked = tokio::time::timeout(LOOK_AGAIN * 2, wait.as_mut()).await;
            assert!(looked.is_err());
            assert!(!test.stopwatch().is_stopped());
            assert!(!file.caller().stopwatch().is_stopped());
        }
        assert!(!file.activity().is_idle(), "the call goes on");
        drop(call);
        assert!(file.activity().is_idle());
    }

    #[tokio::test]
    async fn what_is_there_stops_nothing() {
        let file = FileWatch::default();
        let budget = Full(Mutex::new(true));
        let granted = for_pool(&budget, "a", Need::default(), async { 5 });
        assert_eq!(file.caller().enter(granted).await, 5);
        assert_eq!(file.waited(), Duration::ZERO);
    }
}
