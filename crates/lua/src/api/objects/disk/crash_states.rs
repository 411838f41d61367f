//! `disk:crash_states(fn)`: runs a function on each state that a power loss could leave, on copies of the disk's VM.
//!
//! ```text
//! explorer ── copy ──▶ task: next state ─▶ fn(image, vm) ─▶ next state ─▶ …
//!          └─ copy ──▶ task: next state ─▶ fn(image, vm) ─▶ …              the failure with the lowest number counts
//! ```
//!
//! States are given in their order, so when one fails, all before it have been given, too, and are awaited: which
//! failure is reported does not depend on which copy was faster.

use super::handles::{DiskObject, sectors_to_read};
use super::power::{log_mark, seed_of};
use crate::api::globals::record_write;
use crate::api::objects::handles::vm_value;
use crate::api::objects::paths::host_path;
use crate::api::objects::value::{as_object, call_site};
use crate::api::objects::{outcome, start};
use crate::binding::args::Args;
use crate::binding::class::{Class, Object, async_function, object};
use crate::binding::options::Options;
use crate::binding::raise::LuaError;
use crate::binding::stack;
use crate::binding::values::count_of;
use crate::engine::failure::Failure;
use crate::engine::task::{Task, TaskState};
use crate::engine::test_file::TestFileState;
use futures_util::future::join_all;
use mlua::{Function, IntoLuaMulti as _, Lua, MultiValue, Result, Table, Value};
use provium_lab::{CrashCount, CrashExplorer, CrashImage, CrashOptions, CrashVm, Disk, Scope};
use provium_pool::Caller;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

/// Most states that are tried where the author does not say how many.
const DEFAULT_MOST: usize = 1000;

/// Copies of the VM, where the author does not say how many.
const DEFAULT_VMS: usize = 2;

/// Most copies that an author may ask for.
const MOST_VMS: usize = 64;

const KNOWN: &[&str] = &["since", "most", "seed", "vms", "keep_going", "fresh"];

/// A state that a power loss could leave, as Lua holds it.
#[derive(Clone)]
struct CrashImageObject(CrashImage);

impl Object for CrashImageObject {
    const CLASS: &'static str = "crash_image";
    fn subject(&self) -> String {
        self.0.subject()
    }
    fn describe(&self) -> String {
        format!("{}: {}", self.0.subject(), self.0.describe())
    }
}

/// Makes the class of the images, and what the prelude's part of `crash_states` calls.
pub(super) fn install(lua: &Lua, native: &Table) -> Result<()> {
    let explore = async_function(lua, "disk:crash_states", true, |lua, args| async move {
        let disk = as_object::<DiskObject>(&args.value(0));
        let disk = disk.ok_or_else(|| {
            LuaError::argument("needs a disk before its arguments (call it with `:`)")
        })?;
        let explored = explore(&lua, &disk.0, &args).await;
        explored.map_err(|error| match error {
            LuaError::Argument(_) => LuaError::message(error.text(&disk.subject(), "crash_states")),
            other => other,
        })
    })?;
    native.raw_set("crash_states", explore)?;
    Class::<CrashImageObject>::new(lua)?
        .method("number", |_, this, _| Ok(this.0.number()))?
        .method("describe", |_, this, _| Ok(this.0.describe().to_owned()))?
        .method("size", |_, this, _| Ok(this.0.size()))?
        .method("read_sectors", |lua, this, args| {
            let (first, count) = sectors_to_read(args)?;
            Ok(lua.create_string(this.0.read_sectors(first, count)?)?)
        })?
        .method("save", |lua, this, args| {
            let path = host_path(lua, &args.text(0, "the path")?)?;
            record_write(lua, &path);
            Ok(this.0.save(&path)?)
        })?
        .finish()
}

/// Adds `crash_states`, which the prelude carries out: it passes on what the author's function raises.
pub(super) fn add(class: Class<'_, DiskObject>) -> Result<Class<'_, DiskObject>> {
    let prelude = TestFileState::of(class.lua()).prelude.clone();
    class.lua_method("crash_states", &prelude.method("crash_states")?)
}

/// What is common to all copies.
struct Exploration {
    lua: Lua,
    parent: Rc<Task>,
    function: Function,
    scope: Scope,
    keep_going: bool,
    tested: Cell<usize>,
    failed: RefCell<Vec<FailedState>>,
    /// A state failed, or a copy, so that no further one is begun.
    ends: Cell<bool>,
}

struct FailedState {
    number: usize,
    description: String,
    message: String,
    is_assertion: bool,
}

/// `true` and the table of the result.
async fn explore(lua: &Lua, disk: &Disk, args: &Args) -> std::result::Result<MultiValue, LuaError> {
    let function = args.function(1, "the function")?;
    let options = args.options(2, KNOWN)?;
    let vms = options.unsigned::<usize>("vms")?.unwrap_or(DEFAULT_VMS);
    if !(1..=MOST_VMS).contains(&vms) {
        return Err(LuaError::argument(format!(
            "option `vms`: must be from 1 to {MOST_VMS}, got {vms}"
        )));
    }
    let (keep_going, fresh) = (options.flag("keep_going")?, options.flag("fresh")?);
    let crash_options = crash_options(lua, &options)?;
    let parent = Task::current();
    let parent = parent.ok_or_else(|| {
        LuaError::argument("can only be called in a test or at the top level of a file")
    })?;
    let started = Instant::now();
    let (scope, _) = call_site(lua);
    let explorer = CrashExplorer::start(disk, crash_options).await?;
    let exploration = Exploration {
        lua: lua.clone(),
        parent,
        function,
        scope: scope.clone(),
        keep_going,
        tested: Cell::default(),
        failed: RefCell::default(),
        ends: Cell::default(),
    };
    let mut copies = Vec::new();
    while copies.len() < vms {
        // The first waits until the pool has room for it.
        match explorer.copy(&scope, copies.is_empty(), fresh).await? {
            Some(copy) => copies.push(copy),
            None => break,
        }
    }
    // Each copy in a turn of its own: one may continue while the function on another waits.
    let caller = exploration.parent.deadline.caller();
    let runs = copies.into_iter();
    let runs = runs.map(|copy| caller.take_turn(exploration.run(copy)));
    let explored = join_all(runs).await;
    for explored in explored {
        explored?;
    }
    exploration.result(&explorer, started)
}

fn crash_options(lua: &Lua, options: &Options) -> std::result::Result<CrashOptions, LuaError> {
    let most = options.read_with("most", count_of::<usize>)?;
    Ok(CrashOptions {
        since: log_mark(options.unsigned("since")?),
        most: most.unwrap_or(DEFAULT_MOST),
        seed: seed_of(lua, options.integer("seed")?),
    })
}

impl Exploration {
    /// Tries states on a copy until there are no more, and ends it.
    async fn run(&self, mut copy: CrashVm) -> std::result::Result<(), LuaError> {
        let explored = self.try_states(&mut copy).await;
        if explored.is_err() {
            self.ends.set(true);
        }
        copy.close().await?;
        explored
    }

    async fn try_states(&self, copy: &mut CrashVm) -> std::result::Result<(), LuaError> {
        while !self.ends.get() {
            let Some(image) = copy.next().await? else {
                return Ok(());
            };
            let failure = self.try_state(copy, &image).await?;
            self.tested.set(self.tested.get() + 1);
            if let Some(failure) = failure {
                if failure.skip {
                    return Err(LuaError::Skip);
                }
                self.ends.set(!self.keep_going);
                self.failed.borrow_mut().push(FailedState {
                    number: image.number(),
                    description: image.describe().to_owned(),
                    is_assertion: self.take_assertion(&failure),
                    message: failure.message,
                });
            }
        }
        Ok(())
    }

    /// Runs the function on one state; what it raised. What it makes is closed when it has ended.
    async fn try_state(
        &self,
        copy: &CrashVm,
        image: &CrashImage,
    ) -> std::result::Result<Option<Failure>, LuaError> {
        let scope = StateScope::new(self.scope.child(image.subject()));
        let task = Task::new(
            scope.scope.clone(),
            Rc::clone(&self.parent.group),
            Rc::clone(&self.parent.deadline),
            stack::place(&self.lua),
        );
        let arguments = [
            object(&self.lua, CrashImageObject(image.clone()))?,
            vm_value(&self.lua, copy.vm())?,
        ];
        let arguments = MultiValue::from_iter(arguments);
        start(&self.lua, &task, self.function.clone(), arguments)?;
        self.parent.waits_for_predicate(&task);
        let task = TaskGuard(task);
        Caller::wait_for_turns(task.0.ended()).await;
        let unclosed = scope.close().await;
        match task.0.state() {
            TaskState::Failed(failure) => {
                task.0.mark_seen();
                Ok(Some(failure))
            }
            TaskState::Returned(_) if unclosed.is_empty() => Ok(None),
            TaskState::Returned(_) => Ok(Some(Failure::new(unclosed.join("\n")))),
            TaskState::Cancelled | TaskState::Running => {
                outcome(&self.lua, &task.0)?;
                Ok(None)
            }
        }
    }

    /// Takes a failed assertion of a state out of what the test fails with: the state is reported with it.
    fn take_assertion(&self, failure: &Failure) -> bool {
        let mut first = self.parent.group.failed_assertion.borrow_mut();
        let is_of_state = first
            .as_ref()
            .is_some_and(|first| first.message == failure.message);
        if is_of_state {
            first.take();
        }
        is_of_state
    }

    fn result(
        &self,
        explorer: &CrashExplorer,
        started: Instant,
    ) -> std::result::Result<MultiValue, LuaError> {
        let mut failed = self.failed.take();
        failed.sort_by_key(|failed| failed.number);
        let CrashCount { states, is_cut } = explorer.count();
        if let (false, Some(first)) = (self.keep_going, failed.first()) {
            let text = format!(
                "crash state {} of {states}: {}: {}",
                first.number, first.description, first.message
            );
            return Err(match first.is_assertion {
                true => LuaError::Assertion(text),
                false => LuaError::message(text),
            });
        }
        let lua = &self.lua;
        let table = lua.create_table()?;
        table.raw_set("states", states)?;
        table.raw_set("tested", self.tested.get())?;
        table.raw_set("cut", is_cut)?;
        table.raw_set("seconds", started.elapsed().as_secs_f64())?;
        let list = lua.create_table()?;
        for failed in failed {
            let entry = lua.create_table()?;
            entry.raw_set("number", failed.number)?;
            entry.raw_set("state", failed.description)?;
            entry.raw_set("error", failed.message)?;
            list.push(entry)?;
        }
        table.raw_set("failed", list)?;
        Ok((true, Value::Table(table)).into_lua_multi(lua)?)
    }
}

/// Stops the task of a state when its exploration is dropped.
struct TaskGuard(Rc<Task>);

impl Drop for TaskGuard {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// The scope of what is made on one state. Dropped before it is closed, it is closed by a task of its own.
struct StateScope {
    scope: Scope,
    is_closed: bool,
}

impl StateScope {
    fn new(scope: Scope) -> Self {
        Self {
            scope,
            is_closed: false,
        }
    }

    /// What could not be closed.
    async fn close(mut self) -> Vec<String> {
        let failures = self.scope.close().await;
        self.is_closed = true;
        failures.iter().map(ToString::to_string).collect()
    }
}

impl Drop for StateScope {
    fn drop(&mut self) {
        if !self.is_closed {
            let scope = self.scope.clone();
            tokio::task::spawn_local(async move { scope.close().await });
        }
    }
}
