//! The running commands and batches of an owner, and the joins that wait for all of them.

use super::call::{Call, lock};
use crate::failure::OpResult;
use provium_protocol::Reply;
use std::sync::{Arc, Mutex};

/// Commands since the last join.
#[derive(Debug, Default)]
pub(super) struct Background(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Commands of every kind that run, and batches.
    running: u32,
    /// Those of the `run_async` family that ran.
    ran: u32,
    /// The worst exit code of those.
    worst: i32,
    joining: Vec<Arc<Call>>,
}

/// Joins that can be answered, and the answer.
pub(super) type Answers = Vec<(Arc<Call>, OpResult)>;

impl Background {
    pub(super) fn begun(&self, background: bool) {
        let mut counts = lock(&self.0);
        counts.running += 1;
        counts.ran += u32::from(background);
    }

    pub(super) fn ended(&self, background: bool, result: &OpResult) -> Answers {
        let code = match result {
            Ok(Reply::Exited(exit) | Reply::Ran { exit, .. }) => exit
                .signal
                .map_or(exit.code.unwrap_or(0), |signal| 128 + signal),
            _ => 0,
        };
        let mut counts = lock(&self.0);
        counts.running = counts.running.saturating_sub(1);
        if background {
            if result.is_err() {
                // It never ran, or was called off.
                counts.ran = counts.ran.saturating_sub(1);
            }
            counts.worst = counts.worst.max(code);
        }
        counts.answers()
    }

    /// Answers `call` as soon as no command runs.
    pub(super) fn join(&self, call: Arc<Call>) -> Answers {
        let mut counts = lock(&self.0);
        counts.joining.push(call);
        counts.answers()
    }

    /// Withdraws a join that is not answered yet.
    pub(super) fn withdraw(&self, call: &Call) -> bool {
        let joining = &mut lock(&self.0).joining;
        let before = joining.len();
        joining.retain(|joining| joining.id != call.id);
        joining.len() < before
    }

    /// Raises the worst code to at least this one.
    pub(super) fn worsen(&self, code: i32) {
        let mut counts = lock(&self.0);
        counts.worst = counts.worst.max(code);
    }
}

impl Counts {
    fn answers(&mut self) -> Answers {
        if self.running > 0 || self.joining.is_empty() {
            return Vec::new();
        }
        let summary = Reply::Joined {
            exit_code: self.worst,
            children: self.ran,
        };
        let joining = std::mem::take(&mut self.joining);
        (self.ran, self.worst) = (0, 0);
        joining
            .into_iter()
            .map(|call| (call, Ok(summary.clone())))
            .collect()
    }
}
