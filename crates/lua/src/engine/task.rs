//! Tasks: Lua coroutines that the executor drives, with what belongs to each.
//!
//! A file's top level is a task, each test is one, and so is what `co.spawn` starts. A task knows
//! its scope, its deadline, and the calls it waits in; ending it early drops the futures of those
//! calls at once, which cancels them in the guest, instead of when Lua collects them.
//!
//! The tasks of a test are a [`TaskGroup`], and so are those of a file's top level. The group ends its tasks
//! and has what they share.

use crate::engine::children::Children;
use crate::engine::deadline::Deadline;
use crate::engine::failed_commands::FailedCommands;
use crate::engine::failure::Failure;
use crate::engine::frames::Frame;
use crate::engine::log::Log;
use crate::engine::pending_call::{Call, PendingCall};
use crate::engine::started_processes::StartedProcesses;
use mlua::MultiValue;
use provium_lab::{LabClone, Scope, Site};
use provium_pool::Caller;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::rc::{Rc, Weak};
use tokio::sync::watch;

/// Calls that end when other tasks have got on.
const WAITS_FOR_TASKS: [&str; 4] = ["require(", "task:join(", "parallel(", "lab:barrier("];

tokio::task_local! {
    static CURRENT: Rc<Task>;
}

/// The tasks of a test, or of a file's top level, and what they share. Each attempt of a test has its own.
#[derive(Default)]
pub(crate) struct TaskGroup {
    /// The name of the test; `None` for a file's top level.
    pub(crate) test: Option<String>,
    /// What they print.
    pub(crate) log: Log,
    /// Those that were started.
    pub(crate) tasks: RefCell<Vec<Rc<Task>>>,
    /// Commands of `io.popen` that they started.
    pub(crate) children: Children,
    /// Background processes in guests that they started.
    pub(crate) processes: StartedProcesses,
    /// Commands in guests that failed.
    pub(crate) failed_commands: FailedCommands,
    /// The first assertion that failed, also if its error was caught.
    pub(crate) failed_assertion: RefCell<Option<Failure>>,
    /// The copy of the file's lab that they use instead of it, in a parallel test.
    pub(crate) lab_clone: RefCell<Option<Rc<LabClone>>>,
    /// Whether it is over, so that no task may be started any more.
    pub(crate) ended: Cell<bool>,
}

impl TaskGroup {
    /// The tasks of the test `name`, or, without one, of a file's top level.
    pub(crate) fn new(test: Option<String>, log: Log) -> Rc<Self> {
        Rc::new(Self {
            test,
            log,
            ..Self::default()
        })
    }
}

/// Where a task is.
#[derive(Debug, Clone)]
pub(crate) enum TaskState {
    /// Not yet done.
    Running,
    /// Its function returned these.
    Returned(MultiValue),
    /// Its function raised.
    Failed(Failure),
    /// It was ended before it was done.
    Cancelled,
}

/// A task.
pub(crate) struct Task {
    /// What the task makes belongs here.
    pub(crate) scope: Scope,
    /// The test, or the top level, that it belongs to.
    pub(crate) group: Rc<TaskGroup>,
    /// Until when it may run.
    pub(crate) deadline: Rc<Deadline>,
    /// Where it was started.
    pub(crate) home: Option<Site>,
    calls: RefCell<Vec<Weak<PendingCall>>>,
    /// The script of the fixture that it waits for.
    build: RefCell<Weak<Task>>,
    /// The task of the predicate that its `wait_until` waits for.
    predicate: RefCell<Weak<Task>>,
    /// The error of a call to a dead VM, also if it was caught.
    dead_vm: RefCell<Option<String>>,
    /// Where it was when it was stopped.
    stopped_in: RefCell<Option<String>>,
    state: RefCell<TaskState>,
    /// Whether its error was passed to a caller, such as one of `join`.
    seen: Cell<bool>,
    /// Where it was when it ran into its deadline or the user's cancel inside Lua code.
    interrupted: RefCell<Option<Vec<Frame>>>,
    stop: watch::Sender<bool>,
    done: watch::Sender<bool>,
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

impl Task {
    /// A task that has not begun.
    pub(crate) fn new(
        scope: Scope,
        group: Rc<TaskGroup>,
        deadline: Rc<Deadline>,
        home: Option<Site>,
    ) -> Rc<Self> {
        Rc::new(Self {
            scope,
            group,
            deadline,
            home,
            calls: RefCell::default(),
            build: RefCell::default(),
            predicate: RefCell::default(),
            dead_vm: RefCell::default(),
            stopped_in: RefCell::default(),
            state: RefCell::new(TaskState::Running),
            seen: Cell::new(false),
            interrupted: RefCell::default(),
            stop: watch::Sender::new(false),
            done: watch::Sender::new(false),
        })
    }

    /// A task in the same scope, group and deadline.
    pub(crate) fn child(&self, home: Option<Site>) -> Rc<Self> {
        self.child_within(Rc::clone(&self.deadline), home)
    }

    /// A task in the same scope and group.
    pub(crate) fn child_within(&self, deadline: Rc<Deadline>, home: Option<Site>) -> Rc<Self> {
        Self::new(self.scope.clone(), Rc::clone(&self.group), deadline, home)
    }

    /// A call of its code failed since a VM is dead.
    pub(crate) fn note_dead_vm(&self, error: &str) {
        self.dead_vm.replace(Some(error.to_owned()));
    }

    /// The error of its last call to a VM that is dead.
    pub(crate) fn dead_vm(&self) -> Option<String> {
        self.dead_vm.borrow().clone()
    }

    /// A predicate is looked at for it, by that task.
    pub(crate) fn waits_for_predicate(&self, predicate: &Rc<Self>) {
        self.predicate.replace(Rc::downgrade(predicate));
    }

    /// The task whose code runs now.
    pub(crate) fn current() -> Option<Rc<Self>> {
        CURRENT.try_with(Rc::clone).ok()
    }

    /// Runs `future` as this task's, as a turn of its file.
    pub(crate) fn enter<F: Future>(self: &Rc<Self>, future: F) -> impl Future<Output = F::Output> {
        let caller = self.deadline.caller();
        caller.take_turn(CURRENT.scope(Rc::clone(self), future))
    }

    /// Runs `work` as this task's.
    pub(crate) fn enter_sync<R>(self: &Rc<Self>, work: impl FnOnce() -> R) -> R {
        CURRENT.sync_scope(Rc::clone(self), work)
    }

    /// Notes a call that begins to wait; what is returned is its future, until the task is stopped.
    pub(crate) fn begin_call(
        &self,
        label: String,
        frames: Vec<Frame>,
        future: impl Future<Output = mlua::Result<MultiValue>> + 'static,
    ) -> Call {
        // One that waits for another task comes to nothing by itself.
        let waits_for_tasks = WAITS_FOR_TASKS.iter().any(|name| label.starts_with(name));
        let future = async move {
            match waits_for_tasks {
                true => Caller::wait_for_turns(future).await,
                false => future.await,
            }
        };
        let call = PendingCall::new(label, frames, future);
        let mut calls = self.calls.borrow_mut();
        calls.retain(|call| call.upgrade().is_some_and(|call| call.is_open()));
        calls.push(Rc::downgrade(&call));
        Call(call)
    }

    /// The call it waits in and where it was made: the one begun last, if any is open.
    pub(crate) fn current_call(&self) -> Option<(String, Vec<Frame>)> {
        let predicate = self.predicate.borrow().upgrade();
        if let Some(call) = predicate.and_then(|task| task.current_call()) {
            return Some(call);
        }
        let calls = self.calls.borrow();
        let mut open = calls
            .iter()
            .rev()
            .filter_map(Weak::upgrade)
            .filter(|call| call.is_open());
        open.next()
            .map(|call| (call.label.clone(), call.frames.clone()))
    }

    /// A fixture is built for it, by that task.
    pub(crate) fn waits_for_build(&self, build: &Rc<Self>) {
        self.build.replace(Rc::downgrade(build));
    }

    /// Where the script of the fixture that is built for it is, and, if it waits, in which call.
    pub(crate) fn place_in_build(&self) -> Option<String> {
        self.build.borrow().upgrade()?.place()
    }

    /// Where it is, or, as long as a fixture is built for it, where that is.
    fn place(&self) -> Option<String> {
        if let Some(place) = self.stopped_in.borrow().clone() {
            return Some(place);
        }
        if let Some(deeper) = self.place_in_build() {
            return Some(deeper);
        }
        let (call, frames) = match self.current_call() {
            Some((call, frames)) => (format!("{call} at "), frames),
            None => (String::new(), self.interrupted_at()?),
        };
        Some(format!("{call}{}", frames.first()?.site))
    }

    /// Keeps the place of a task that is about to be stopped, for later messages.
    pub(crate) fn keep_place(&self) {
        let place = self.place();
        self.stopped_in.replace(place);
    }

    /// Where it was when it was stopped, or interrupted.
    pub(crate) fn stopped_in(&self) -> Option<String> {
        let interrupted = || Some(self.interrupted_at()?.first()?.site.to_string());
        self.stopped_in.borrow().clone().or_else(interrupted)
    }

    /// Drops the futures of all its calls, which cancels what they asked for.
    pub(crate) fn drop_calls(&self) {
        for call in self.calls.take().iter().filter_map(Weak::upgrade) {
            call.cancel();
        }
    }

    /// Whether its Lua code must be interrupted. Once it had to, it stays so.
    pub(crate) fn must_stop(&self, cancelled: bool) -> bool {
        self.was_interrupted() || cancelled || self.deadline.is_past() || *self.stop.borrow()
    }

    /// Its Lua code is interrupted, in these frames.
    pub(crate) fn interrupt(&self, frames: impl FnOnce() -> Vec<Frame>) {
        self.interrupted.borrow_mut().get_or_insert_with(frames);
    }

    /// Whether its Lua code was interrupted.
    pub(crate) fn was_interrupted(&self) -> bool {
        self.interrupted.borrow().is_some()
    }

    /// Where its Lua code was interrupted.
    pub(crate) fn interrupted_at(&self) -> Option<Vec<Frame>> {
        self.interrupted.borrow().clone()
    }

    /// Asks for its end.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until its end is asked for.
    pub(crate) async fn stop_asked(&self) {
        let mut receiver = self.stop.subscribe();
        // The sender lives as long as the task.
        let _ = receiver.wait_for(|asked| *asked).await;
    }

    /// Whether it has ended and has no error that is still to be reported.
    pub(crate) fn is_settled(&self) -> bool {
        match &*self.state.borrow() {
            TaskState::Running => false,
            TaskState::Failed(_) => self.seen.get(),
            TaskState::Returned(_) | TaskState::Cancelled => true,
        }
    }

    /// Where it is.
    pub(crate) fn state(&self) -> TaskState {
        self.state.borrow().clone()
    }

    /// It has ended.
    pub(crate) fn end(&self, state: TaskState) {
        self.state.replace(state);
        self.done.send_replace(true);
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&self) {
        let mut receiver = self.done.subscribe();
        // The sender lives as long as the task.
        let _ = receiver.wait_for(|done| *done).await;
    }

    /// Notes that its error was passed to a caller.
    pub(crate) fn mark_seen(&self) {
        self.seen.set(true);
    }

    /// The error that ended it, unless it was passed to a caller.
    pub(crate) fn unseen_failure(&self) -> Option<Failure> {
        match &*self.state.borrow() {
            TaskState::Failed(failure) if !self.seen.get() => Some(failure.clone()),
            _ => None,
        }
    }
}
