//! The fabric's time, taken from the host's monotonic clock, and the time that people read.

use crate::Time;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A clock that can be stopped.
#[derive(Debug)]
pub(super) struct Clock {
    /// The time at which it was last started or stopped.
    at: Time,
    /// When it was started; `None`: it is stopped.
    started: Option<Instant>,
}

impl Clock {
    /// A running clock that shows `now`.
    pub(super) fn started_at(now: Time) -> Self {
        Self {
            at: now,
            started: Some(Instant::now()),
        }
    }

    /// A stopped clock that shows `now`.
    pub(super) fn stopped_at(now: Time) -> Self {
        Self {
            at: now,
            started: None,
        }
    }

    pub(super) fn now(&self) -> Time {
        match self.started {
            Some(started) => self.at + started.elapsed(),
            None => self.at,
        }
    }

    pub(super) fn stop(&mut self) {
        self.at = self.now();
        self.started = None;
    }

    pub(super) fn start(&mut self) {
        self.started.get_or_insert_with(Instant::now);
    }

    pub(super) fn is_running(&self) -> bool {
        self.started.is_some()
    }
}

/// What the host's calendar shows, since the epoch.
pub(super) fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_clock_does_not_advance() {
        let mut clock = Clock::started_at(Time::from_nanos(5));
        clock.stop();
        let stopped = clock.now();
        assert!(stopped >= Time::from_nanos(5));
        assert_eq!(clock.now(), stopped);
        clock.start();
        assert!(clock.now() >= stopped);
    }
}
