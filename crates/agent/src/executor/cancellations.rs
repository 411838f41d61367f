//! Calls that were cancelled and have not ended: they are interrupted until they do, or given up.

use super::call::Call;
use super::owner::Owner;
use super::process_tree::kill_tree;
use super::shared::Shared;
use crate::failure;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Interval of the signals to a thread that has to stop waiting.
pub(super) const INTERRUPT_INTERVAL: Duration = Duration::from_millis(20);
/// The time that it has to stop.
const GRACE: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(super) struct Cancellations(Vec<Cancellation>);

struct Cancellation {
    call: Arc<Call>,
    owner: Arc<Owner>,
    until: Instant,
}

impl Cancellations {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Kills the command of a call, or interrupts its raw call.
    pub(super) fn begin(&mut self, shared: &Shared, call: Arc<Call>, owner: Arc<Owner>) {
        if let Some(pid) = call.process() {
            kill_tree(pid);
        }
        let now = Instant::now();
        self.0.push(Cancellation {
            call,
            owner,
            until: now + GRACE,
        });
        self.interrupt(shared, now);
    }

    /// Interrupts the calls again, and gives up on those that cannot be interrupted.
    pub(super) fn interrupt(&mut self, shared: &Shared, now: Instant) {
        self.0.retain(|Cancellation { call, owner, until }| {
            if call.is_answered() {
                return false;
            }
            owner.interrupt(call);
            if now < *until {
                return true;
            }
            // Answered first: operations that have not started continue with the next raw process.
            shared.calls.finish(call, Err(failure::cancelled()));
            owner.give_up(shared, call);
            false
        });
    }
}
