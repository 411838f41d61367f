//! Noticing that a guest does not answer any more.
//!
//! A guest whose kernel hangs, or whose processors never come to its agent, keeps its end of the
//! transport open: nothing is closed, no call fails. So while calls are open and nothing comes, the
//! agent is asked for a sign of life.
//!
//! A guest that has been stopped on purpose (paused, under a debugger, at a cut) does not answer
//! either: the caller must not watch it then.

use crate::channel::Channel;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout, timeout_at};

impl Channel {
    /// Returns once the guest has been silent for `limit` although calls were open and the agent was
    /// asked for a sign of life. As long as there is no session, nothing is expected of it.
    ///
    /// Costs one ping each quarter of `limit`, and only while calls are open and nothing comes.
    pub async fn silence(&self, limit: Duration) {
        let step = limit / 4;
        loop {
            sleep(step).await;
            let shared = self.shared();
            if !shared.has_open_calls() || shared.last_heard().elapsed() < step {
                continue;
            }
            let asked = Instant::now();
            // The silence before the ping counts, too.
            let until = (shared.last_heard() + limit).max(asked + step);
            let Err(_) = timeout_at(until, self.ping()).await else {
                // It answered, or there is no session.
                continue;
            };
            if shared.last_heard() < asked && shared.is_open() {
                return;
            }
        }
    }

    /// Whether the agent answers within `limit`.
    pub async fn answers_within(&self, limit: Duration) -> bool {
        matches!(timeout(limit, self.ping()).await, Ok(Ok(_)))
    }
}
