//! Until when a test or a file may run.

use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// A point in time that ends a test or a file, and the time it allowed.
#[derive(Debug, Clone)]
pub(crate) struct Deadline {
    at: Option<Instant>,
    allowed: Duration,
    whole_file: bool,
}

impl Deadline {
    /// The end of a file that may take so long from now on.
    pub(crate) fn of_file(allowed: Option<Duration>) -> Rc<Self> {
        let at = allowed.map(|allowed| Instant::now() + allowed);
        Rc::new(Self {
            at,
            allowed: allowed.unwrap_or_default(),
            whole_file: true,
        })
    }

    /// The end of something that may take so long from now on, or this one's, if that is earlier.
    pub(crate) fn within(self: &Rc<Self>, allowed: Option<Duration>) -> Rc<Self> {
        let Some(allowed) = allowed else {
            return Rc::clone(self);
        };
        let at = Instant::now() + allowed;
        match self.at {
            Some(mine) if mine <= at => Rc::clone(self),
            _ => Rc::new(Self {
                at: Some(at),
                allowed,
                whole_file: false,
            }),
        }
    }

    /// How much time is left; `None` where there is no end.
    pub(crate) fn left(&self) -> Option<Duration> {
        let now = Instant::now();
        self.at.map(|at| at.saturating_duration_since(now))
    }

    /// Whether it is past.
    pub(crate) fn is_past(&self) -> bool {
        self.at.is_some_and(|at| Instant::now() >= at)
    }

    /// Whether it is the whole file that ends.
    pub(crate) fn ends_file(&self) -> bool {
        self.whole_file
    }

    /// The time it allowed.
    pub(crate) fn allowed(&self) -> Duration {
        self.allowed
    }

    /// Waits until it is past; for ever, where there is no end.
    pub(crate) async fn passed(&self) {
        match self.at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}
