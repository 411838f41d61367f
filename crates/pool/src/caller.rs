//! On whose behalf work is done, and what a file's supervisors see of it.
//!
//! Which of a file's tasks waits is known only where it runs. So the task sets itself as the [`Caller`] of
//! what it awaits; work that moves to another runtime enters its caller there again.

use crate::activity::{Activity, Turn, WaitingTurn};
use crate::stopwatch::Stopwatch;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

tokio::task_local! {
    static CALLER: Caller;
}

/// The activity of a running file, for its supervisors. Clones share their state.
#[derive(Clone, Debug, Default)]
pub struct FileWatch {
    caller: Caller,
    heartbeat: Arc<Heartbeat>,
}

/// When the file's thread last sent its heartbeat.
#[derive(Debug)]
struct Heartbeat {
    begun: Instant,
    /// Milliseconds since then.
    last: AtomicU64,
}

/// The caller on whose behalf work is done: its clock, its file's activity, and the turn that it takes. Clones share
/// their state.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    stopwatch: Stopwatch,
    activity: Activity,
    /// `None`: it is only the owner of turns.
    turn: Option<Turn>,
}

impl FileWatch {
    /// The file's own caller, the parent of its tests'.
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

    /// The file's thread sends its heartbeat.
    pub fn beat(&self) {
        let now = self.heartbeat.begun.elapsed().as_millis();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        self.heartbeat.last.store(now, Ordering::Relaxed);
    }

    /// How long ago it last sent its heartbeat.
    pub fn silent_for(&self) -> Duration {
        let last = Duration::from_millis(self.heartbeat.last.load(Ordering::Relaxed));
        self.heartbeat.begun.elapsed().saturating_sub(last)
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            last: AtomicU64::new(0),
        }
    }
}

impl Caller {
    /// A caller of the same file with a clock of its own, for a test.
    pub fn child(&self) -> Self {
        Self {
            stopwatch: self.stopwatch.child(),
            activity: self.activity.clone(),
            turn: None,
        }
    }

    /// Its clock.
    pub fn stopwatch(&self) -> &Stopwatch {
        &self.stopwatch
    }

    /// Does `work` on its behalf, as a turn of its own: the file may return something until the work is done, except
    /// while it waits. The turn in which this is awaited waits for it.
    pub fn take_turn<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        let caller = Self {
            turn: Some(Turn::begin(&self.activity)),
            ..self.clone()
        };
        async move {
            let _waits = Self::current_waits();
            caller.enter(work).await
        }
    }

    /// Awaits what other turns of the file do; the current one waits meanwhile.
    pub async fn wait_for_turns<F: Future>(others: F) -> F::Output {
        let _waits = Self::current_waits();
        others.await
    }

    /// The current turn waits, for another turn, another file or the pool; `None` outside of any.
    pub(crate) fn current_waits() -> Option<WaitingTurn> {
        Self::current()?.turn.map(|turn| turn.wait())
    }

    /// Does `work` on its behalf.
    pub fn enter<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        CALLER.scope(self.clone(), work)
    }

    /// The caller on whose behalf the current work is done.
    pub fn current() -> Option<Self> {
        CALLER.try_with(Self::clone).ok()
    }
}
