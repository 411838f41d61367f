//! Repeats the files of a plan.

use crate::hiargs::{Repetition, RunResult};
use crate::lua_backend::LuaFiles;
use camino::Utf8PathBuf;
use provium_events::Sink;
use provium_pool::Pool;
use provium_runner::{History, Outcome, Plan, Stop};

/// All runs of a command.
pub(super) struct Rounds {
    pub(super) plan: Plan,
    pub(super) files: LuaFiles,
    pub(super) pool: Pool,
    pub(super) sink: Sink,
    pub(super) stop: Stop,
    pub(super) repetition: Repetition,
    pub(super) history: History,
    pub(super) cache_dir: Utf8PathBuf,
}

impl Rounds {
    /// Runs them one after the other on this thread; gives the totals of all. Drops all sinks, so that the
    /// writer ends.
    pub(super) fn run(mut self) -> Outcome {
        let mut total = Outcome::default();
        let mut round = 0_u32;
        loop {
            let files = self.files.clone().runner();
            let outcome = provium_runner::run(
                &self.plan,
                &mut self.history,
                &self.pool,
                &self.sink,
                &self.stop,
                files,
            );
            total.add(outcome);
            round += 1;
            if self.repetition.ends_after(round, result_of(&outcome)) {
                break;
            }
            // Other random choices, which can be repeated by themselves.
            let seed = self.plan.info.seed.wrapping_add(1);
            self.plan.info.seed = seed;
            self.files.environment.set_seed(seed);
        }
        // A cache that takes nothing costs the next run its order, and nothing else.
        let _ = self.history.save(&self.cache_dir);
        total
    }
}

fn result_of(outcome: &Outcome) -> RunResult {
    RunResult {
        failed: outcome.files_failed > 0,
        flaky: outcome.flaky > 0,
        stopped: outcome.stopped || outcome.passed + outcome.failed + outcome.skipped == 0,
    }
}
