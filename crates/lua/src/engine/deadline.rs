//! Until when a test or a file may run.
//!
//! Its time does not pass while it waits for what other files hold of the pool, or for an image that the harness
//! makes: see [`Stopwatch`](provium_pool::Stopwatch).

use provium_pool::{Caller, StopReason};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// A point in time that ends a test or a file, and the time it allowed.
#[derive(Debug, Clone)]
pub(crate) struct Deadline {
    /// When it would be over without any wait.
    at: Option<Instant>,
    allowed: Duration,
    caller: Caller,
    /// The deadline of the file, for what is a part of it.
    whole: Option<Rc<Self>>,
}

impl Deadline {
    /// The end of a file that may take so long from now on.
    pub(crate) fn of_file(allowed: Option<Duration>, caller: &Caller) -> Rc<Self> {
        Rc::new(Self {
            at: allowed.and_then(from_now),
            allowed: allowed.unwrap_or_default(),
            caller: caller.clone(),
            whole: None,
        })
    }

    /// The end of something that may take so long from now on, or this one's, if that is earlier.
    pub(crate) fn within(self: &Rc<Self>, allowed: Option<Duration>) -> Rc<Self> {
        let Some(allowed) = allowed else {
            return Rc::clone(self);
        };
        Rc::new(Self {
            at: from_now(allowed),
            allowed,
            caller: self.caller.child(),
            whole: Some(Rc::clone(self)),
        })
    }

    /// On whose behalf its tasks wait.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// How much time is left; `None` without a limit.
    pub(crate) fn left(&self) -> Option<Duration> {
        let now = Instant::now();
        self.end().map(|end| end.saturating_duration_since(now))
    }

    /// Whether it is past.
    pub(crate) fn is_past(&self) -> bool {
        self.end().is_some_and(|end| Instant::now() >= end)
    }

    /// Whether it is the whole file that ends.
    pub(crate) fn ends_file(&self) -> bool {
        match &self.whole {
            None => true,
            Some(whole) => whole.is_past() && whole.ends_file(),
        }
    }

    /// The time it allowed.
    pub(crate) fn allowed(&self) -> Duration {
        match &self.whole {
            Some(whole) if whole.is_past() => whole.allowed(),
            _ => self.allowed,
        }
    }

    /// How long it was stopped for that reason.
    pub(crate) fn stopped_for(&self, reason: StopReason) -> Duration {
        self.caller.stopwatch().stopped_for(reason)
    }

    /// Waits until it is past; for ever without a limit.
    pub(crate) async fn passed(&self) {
        loop {
            let mut changed = pin!(self.caller.stopwatch().changed());
            // From here on no change is missed.
            changed.as_mut().enable();
            match self.end() {
                Some(end) if Instant::now() >= end => return,
                Some(end) => tokio::select! {
                    () = tokio::time::sleep_until(end) => {}
                    () = changed => {}
                },
                None => changed.await,
            }
        }
    }

    /// When it will be past, as things are now; `None` without a limit, and while its clock is stopped.
    fn end(&self) -> Option<Instant> {
        let stopwatch = self.caller.stopwatch();
        let own = match self.at {
            Some(at) if !stopwatch.is_stopped() => at.checked_add(stopwatch.stopped()),
            _ => None,
        };
        let whole = self.whole.as_ref().and_then(|whole| whole.end());
        match (own, whole) {
            (Some(own), Some(whole)) => Some(own.min(whole)),
            (own, whole) => own.or(whole),
        }
    }
}

/// A point in time that lies beyond what the clock can name is none.
fn from_now(allowed: Duration) -> Option<Instant> {
    Instant::now().checked_add(allowed)
}
