//! `provium.parallel`: the tests of a file run side by side, each on a copy of the file's lab.
//!
//! Before the first test the file's VMs are written down, all at one instant, and switched off: what
//! they held of the pool is free for the copies. A test starts, in the order of declaration, once
//! there is room for its copy; at most as many run at a time as the pool has vCPUs, since their own
//! boots need some, too. A test's time begins when its copy is there, and its copy goes with it.
//!
//! What a test calls the file's, by a name or by a handle of the top level, is its copy's: `class`
//! asks the [`TestLab`] of the test that runs.

use super::run_test::{PreparedTest, run_test};
use super::verdict::Verdict;
use super::{Choice, TestDeclaration};
use crate::engine::test_file::TestFileState;
use crate::testing::report::Reporter;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use mlua::Lua;
use provium_lab::{Baseline, LabClone, LabError, Reservation, ResourceId, Scope};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Instant;
use tokio::sync::{Mutex, Notify};

/// What a test has of its own instead of the file's.
pub(crate) struct TestLab {
    /// Stands for the file's scope.
    pub(super) scope: Scope,
    /// The VMs and all that is in them.
    pub(crate) copy: LabClone,
    /// How far their consoles had been looked through when the copy was made.
    pub(super) read: BTreeMap<ResourceId, u64>,
}

/// Lets the tests of a file in, one after the other.
pub(crate) struct ParallelSlots<'a> {
    state: &'a TestFileState,
    /// Held by the test whose turn it is; the others wait in their order.
    turn: Mutex<()>,
    baseline: RefCell<Option<Baseline>>,
    /// Tests that are in.
    inside: Cell<usize>,
    most: usize,
    left: Notify,
}

/// That a test is in.
pub(crate) struct SlotPermit<'a> {
    room: Reservation,
    /// As in [`TestLab`].
    read: BTreeMap<ResourceId, u64>,
    guard: SlotGuard<'a>,
}

/// Ends when the test has left.
pub(crate) struct SlotGuard<'a>(&'a ParallelSlots<'a>);

/// Runs `tests` and tells how each ended; whether all were begun.
pub(crate) async fn run_parallel(
    lua: &Lua,
    state: &TestFileState,
    tests: impl Iterator<Item = (&TestDeclaration, Choice)>,
    reporter: &Reporter,
    mut ended: impl FnMut(&Verdict),
) -> mlua::Result<bool> {
    let slots = ParallelSlots::new(state);
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

impl<'a> ParallelSlots<'a> {
    fn new(state: &'a TestFileState) -> Self {
        let most = state.lab.environment().processors();
        let most = most.and_then(|most| usize::try_from(most).ok());
        Self {
            state,
            turn: Mutex::default(),
            baseline: RefCell::default(),
            inside: Cell::new(0),
            most: most.unwrap_or(usize::MAX).max(1),
            left: Notify::new(),
        }
    }

    /// Waits until a further test may run; the error says why none can.
    pub(super) async fn enter(&self) -> Result<SlotPermit<'_>, String> {
        let entered = tokio::select! {
            biased;
            entered = self.wait() => entered.map_err(|error| error.to_string()),
            () = self.state.cancel.cancelled() => Err("the run was ended".to_owned()),
            () = self.state.deadline.passed() => Err("the file's time is over".to_owned()),
        };
        entered.map_err(|why| format!("provium.parallel: {why}"))
    }

    async fn wait(&self) -> Result<SlotPermit<'_>, LabError> {
        let _turn = self.turn.lock().await;
        let baseline = self.baseline().await?;
        loop {
            let inside = self.inside.get();
            let room = if inside == 0 {
                Some(baseline.reserve().await?)
            } else if inside < self.most {
                baseline.try_reserve()
            } else {
                None
            };
            if let Some(room) = room {
                self.inside.set(self.inside.get() + 1);
                return Ok(SlotPermit {
                    room,
                    read: self.state.kernel_logs.read_more(baseline.vms()),
                    guard: SlotGuard(self),
                });
            }
            self.left.notified().await;
        }
    }

    /// What the copies are of; taken when the first test is let in.
    async fn baseline(&self) -> Result<Baseline, LabError> {
        let taken = self.baseline.borrow().clone();
        if let Some(baseline) = taken {
            return Ok(baseline);
        }
        let baseline = Baseline::take_and_end(&self.state.lab, &self.state.scope).await?;
        self.baseline.replace(Some(baseline.clone()));
        Ok(baseline)
    }

    /// Makes the copy of a test that was let in.
    pub(super) async fn prepare<'g>(
        &'g self,
        permit: Result<SlotPermit<'g>, String>,
    ) -> PreparedTest<'g> {
        let mut prepared = PreparedTest {
            started: Instant::now(),
            test_lab: None,
            failed: None,
            guard: None,
        };
        let SlotPermit { room, read, guard } = match permit {
            Ok(permit) => permit,
            Err(why) => {
                prepared.failed = Some(why);
                return prepared;
            }
        };
        prepared.guard = Some(guard);
        let scope = Scope::file(self.state.scope.label());
        let copying = async {
            let baseline = self.baseline().await?;
            let (lab, of) = (&self.state.lab, &self.state.scope);
            LabClone::start(lab, &baseline, room, of, &scope).await
        };
        let copied = tokio::select! {
            biased;
            copied = copying => copied.map_err(|error| error.to_string()),
            () = self.state.cancel.cancelled() => Err("the run was ended".to_owned()),
            () = self.state.deadline.passed() => Err("the file's time is over".to_owned()),
        };
        match copied {
            Ok(copy) => prepared.test_lab = Some(TestLab { scope, copy, read }),
            Err(why) => {
                // What there is of a copy goes at once.
                let unclosed = super::close(&scope).await;
                let whole = std::iter::once(format!("provium.parallel: {why}")).chain(unclosed);
                prepared.failed = Some(whole.collect::<Vec<_>>().join("\n"));
            }
        }
        // The test's time begins now.
        prepared.started = Instant::now();
        prepared
    }
}

impl Drop for SlotGuard<'_> {
    fn drop(&mut self) {
        self.0.inside.set(self.0.inside.get() - 1);
        self.0.left.notify_one();
    }
}
