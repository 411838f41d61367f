//! Lets the tests of a file that run in parallel start, each with its copy of the file's lab.

use super::ending::close;
use super::kernel_logs::LogCursors;
use super::prepared::{PreparedTest, TestLab};
use crate::engine::file_data::file_data;
use crate::engine::test_file::TestFileState;
use mlua::Lua;
use provium_lab::{Baseline, LabClone, LabError, Reservation, ResourceId, Scope};
use provium_pool::Caller;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;
use tokio::sync::{Mutex, Notify};

/// Lets the tests of a file in, one after the other.
pub(crate) struct ParallelSlots {
    state: Rc<TestFileState>,
    read: Rc<LogCursors>,
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
pub(super) struct SlotGuard<'a>(&'a ParallelSlots);

impl ParallelSlots {
    pub(super) fn new(lua: &Lua) -> Self {
        let state = TestFileState::of(lua);
        let most = state.lab.environment().processors();
        let most = most.and_then(|most| usize::try_from(most).ok());
        Self {
            state,
            read: file_data::<LogCursors>(lua),
            turn: Mutex::default(),
            baseline: RefCell::default(),
            inside: Cell::new(0),
            most: most.unwrap_or(usize::MAX).max(1),
            left: Notify::new(),
        }
    }

    /// Waits until a further test may run; the error says why none can.
    pub(super) async fn enter(&self) -> Result<SlotPermit<'_>, String> {
        let caller = self.state.deadline.caller();
        let entered = tokio::select! {
            biased;
            entered = caller.take_turn(self.wait()) => entered.map_err(|error| error.to_string()),
            () = self.state.cancel.cancelled() => Err("the run was ended".to_owned()),
            () = self.state.deadline.passed() => Err("the file's time is over".to_owned()),
        };
        entered.map_err(|why| format!("provium.parallel: {why}"))
    }

    async fn wait(&self) -> Result<SlotPermit<'_>, LabError> {
        let _turn = Caller::wait_for_turns(self.turn.lock()).await;
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
                    read: self.read.read_more(baseline.vms()),
                    guard: SlotGuard(self),
                });
            }
            Caller::wait_for_turns(self.left.notified()).await;
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

    /// Makes the copy of a test that was let in. The guard is to be dropped once the test has left.
    pub(super) async fn prepare<'g>(
        &'g self,
        permit: Result<SlotPermit<'g>, String>,
    ) -> (PreparedTest, Option<SlotGuard<'g>>) {
        let failed = |why| PreparedTest {
            started: Instant::now(),
            test_lab: None,
            failed: Some(why),
        };
        let SlotPermit { room, read, guard } = match permit {
            Ok(permit) => permit,
            Err(why) => return (failed(why), None),
        };
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
        let prepared = match copied {
            Ok(copy) => {
                let copy = Rc::new(copy);
                PreparedTest {
                    // The test's time begins now.
                    started: Instant::now(),
                    test_lab: Some(TestLab { scope, copy, read }),
                    failed: None,
                }
            }
            Err(why) => {
                // What there is of a copy goes at once.
                let unclosed = close(&scope).await;
                let whole = std::iter::once(format!("provium.parallel: {why}")).chain(unclosed);
                failed(whole.collect::<Vec<_>>().join("\n"))
            }
        };
        (prepared, Some(guard))
    }
}

impl Drop for SlotGuard<'_> {
    fn drop(&mut self) {
        self.0.inside.set(self.0.inside.get() - 1);
        self.0.left.notify_one();
    }
}
