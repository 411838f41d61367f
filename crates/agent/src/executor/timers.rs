//! Calls that are answered at a point in time: sleeps, and closings of workers that take too long.

use super::call::Call;
use super::owner::Owner;
use super::shared::Shared;
use provium_protocol::Reply;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a worker may take to end.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct Timers {
    sleeping: Vec<(Arc<Call>, Instant)>,
    closing: Vec<(Arc<Call>, Arc<Owner>, Instant)>,
}

impl Timers {
    /// Answers `call` at `until`.
    pub(super) fn sleep(&mut self, call: Arc<Call>, until: Instant) {
        self.sleeping.push((call, until));
    }

    /// Withdraws a sleep; returns false if there is none of this call.
    pub(super) fn withdraw(&mut self, call: &Arc<Call>) -> bool {
        let before = self.sleeping.len();
        self.sleeping
            .retain(|(sleeping, _)| !Arc::ptr_eq(sleeping, call));
        self.sleeping.len() < before
    }

    /// Answers `call` even if the worker does not end.
    pub(super) fn limit_closing(&mut self, call: Arc<Call>, owner: Arc<Owner>) {
        self.closing
            .push((call, owner, Instant::now() + CLOSE_LIMIT));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        let closing = self.closing.iter().map(|(_, _, until)| *until);
        let sleeping = self.sleeping.iter().map(|(_, until)| *until);
        closing.chain(sleeping).min()
    }

    /// Answers the calls whose time has come.
    pub(super) fn expire(&mut self, shared: &Shared, now: Instant) {
        self.closing.retain(|(call, owner, until)| {
            if call.is_answered() {
                return false;
            }
            if now < *until {
                return true;
            }
            owner.stop_waiting_for_end(call);
            shared.calls.finish(call, Ok(Reply::Done));
            false
        });
        self.sleeping.retain(|(call, until)| {
            let is_over = now >= *until;
            if is_over {
                shared.calls.finish(call, Ok(Reply::Done));
            }
            !is_over
        });
    }
}
