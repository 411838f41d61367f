//! `provium.parallel`: the tests of a file run side by side, each on a copy of the file's lab.
//!
//! Before the first test the file's VMs are written down, all at one instant, and switched off: what
//! they held of the pool is free for the copies. A test starts, in the order of declaration, once
//! there is room for its copy; at most as many run at a time as the pool has vCPUs, since their own
//! boots need some, too. A test's time begins when its copy is there, and its copy goes with it.
//!
//! What a test calls the file's, by a name or by a handle of the top level, is its copy's: `class` looks it up
//! in the copy of the test that runs.

use super::parallel_slots::ParallelSlots;
use super::report::Reporter;
use super::run_test::run_test;
use super::verdict::Verdict;
use super::{Choice, TestDeclaration};
use crate::engine::test_file::TestFileState;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use mlua::Lua;
use std::cell::RefCell;
use std::pin::pin;

/// Runs `tests` and tells how each ended; whether all were begun.
pub(crate) async fn run_parallel(
    lua: &Lua,
    state: &TestFileState,
    tests: impl Iterator<Item = (&TestDeclaration, Choice)>,
    reporter: &Reporter,
    mut ended: impl FnMut(&Verdict),
) -> mlua::Result<bool> {
    let slots = ParallelSlots::new(lua);
    let mut running = FuturesUnordered::new();
    let failure = RefCell::new(None);
    let mut note = |(test, done): (&TestDeclaration, mlua::Result<Verdict>)| match done {
        Ok(verdict) => {
            reporter.ended(test, &verdict);
            ended(&verdict);
        }
        // The others are to end as they should before this one's error ends the file.
        Err(error) => drop(failure.borrow_mut().get_or_insert(error)),
    };
    let mut all = true;
    for (test, choice) in tests {
        if let Choice::Skip(reason) = choice {
            reporter.started(test);
            note((test, Ok(Verdict::skipped(reason))));
            continue;
        }
        let mut entering = pin!(slots.enter());
        let permit = loop {
            tokio::select! {
                biased;
                Some(done) = running.next() => note(done),
                permit = &mut entering => break permit,
            }
        };
        let ends = state.cancel.is_cancelled() || state.deadline.is_past();
        if ends || failure.borrow().is_some() {
            all = false;
            break;
        }
        reporter.started(test);
        let slots = &slots;
        running.push(async move {
            let done = run_test(lua, test, reporter, Some((slots, permit))).await;
            (test, done)
        });
    }
    while let Some(done) = running.next().await {
        note(done);
    }
    failure.into_inner().map_or(Ok(all), Err)
}
