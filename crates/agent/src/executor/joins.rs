//! The running commands and batches of a lane, and the joins that wait for all of them.

use super::call::{Call, RunMode};
use crate::failure::OpResult;
use provium_protocol::Reply;
use std::sync::Arc;

/// Commands and batches since the last join.
#[derive(Debug, Default)]
pub(super) struct LaneJoins {
    /// Commands of both modes that run, and batches.
    running: u32,
    /// Background commands that ran.
    ran: u32,
    /// The worst exit code of those.
    worst: i32,
    joining: Vec<Arc<Call>>,
}

/// Joins that can be answered, and the answer.
pub(super) type Answers = Vec<(Arc<Call>, OpResult)>;

impl LaneJoins {
    pub(super) fn begun(&mut self, mode: RunMode) {
        self.running += 1;
        self.ran += u32::from(mode == RunMode::Background);
    }

    pub(super) fn ended(&mut self, mode: RunMode, result: &OpResult) -> Answers {
        let code = match result {
            Ok(Reply::Exited(exit) | Reply::Ran { exit, .. }) => exit
                .signal
                .map_or(exit.code.unwrap_or(0), |signal| 128 + signal),
            _ => 0,
        };
        self.running = self.running.saturating_sub(1);
        if mode == RunMode::Background {
            if result.is_err() {
                // It never ran, or was cancelled.
                self.ran = self.ran.saturating_sub(1);
            }
            self.worsen(code);
        }
        self.answers()
    }

    /// Answers `call` as soon as no command runs.
    pub(super) fn join(&mut self, call: Arc<Call>) -> Answers {
        self.joining.push(call);
        self.answers()
    }

    /// Withdraws a join that is not answered yet.
    pub(super) fn withdraw(&mut self, call: &Call) -> bool {
        let before = self.joining.len();
        self.joining.retain(|joining| joining.id != call.id);
        self.joining.len() < before
    }

    /// Raises the worst code to at least this one.
    pub(super) fn worsen(&mut self, code: i32) {
        self.worst = self.worst.max(code);
    }

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
