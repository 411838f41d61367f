//! Makes a file's Lua state: standard library, prelude, globals, classes. This is where all layers are
//! registered.

use crate::api;
use crate::binding::natives;
use crate::engine::deadline::Deadline;
use crate::engine::dry_run::{self, DryRun};
use crate::engine::file_data::file_data;
use crate::engine::hook;
use crate::engine::log::Log;
use crate::engine::memory::MEMORY_LIMIT;
use crate::engine::prelude::Prelude;
use crate::engine::task::{Task, TaskGroup};
use crate::engine::test_file::{TestFileState, shown_from};
use crate::file::job::FileJob;
use crate::testing::{self, Settings};
use mlua::{Lua, Result, Table};
use provium_lab::{Lab, Scope};
use provium_pool::FileWatch;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Time that the finalisers of a file have in all, at its end.
const FINALISER_TIMEOUT: Duration = Duration::from_secs(5);

/// What a file's Lua state is for.
pub(crate) enum Purpose {
    /// To run its tests.
    Run,
    /// To list them.
    List(Rc<DryRun>),
    /// To build a fixture.
    Build {
        /// The root lab of the build.
        lab: Lab,
        /// Until when the build may take.
        deadline: Rc<Deadline>,
        /// Takes what the script prints.
        log: Log,
    },
}

/// A file's Lua state. Dropping it runs what finalisers (`__gc`) the author's code has left, as long
/// as everything that they may call is still there.
pub(crate) struct LuaState(Lua);

impl Deref for LuaState {
    type Target = Lua;
    fn deref(&self) -> &Lua {
        &self.0
    }
}

impl Drop for LuaState {
    fn drop(&mut self) {
        let state = TestFileState::of(self);
        // A finaliser must not fail for want of memory, which is about to be given back.
        let unlimited = self.set_memory_limit(0);
        let finalised = unlimited.and_then(|_| finalise(self, &state));
        let calmed = hook::reset_interval(self);
        // Whatever came of it: none may be left when the state is closed.
        let disarm = state.prelude.method("disarm");
        let disarmed = disarm.and_then(|disarm| disarm.call::<()>(()));
        for error in [finalised, calmed, disarmed]
            .into_iter()
            .filter_map(Result::err)
        {
            tracing::debug!(%error, "ending a Lua state");
        }
    }
}

/// Runs all finalisers of the author's, within a time of their own.
fn finalise(lua: &Lua, state: &TestFileState) -> Result<()> {
    let watch = FileWatch::default();
    let deadline = Deadline::of_file(Some(FINALISER_TIMEOUT), watch.caller());
    let group = Rc::clone(&state.top_level);
    let task = Task::new(state.scope.clone(), group, deadline, None);
    let thread = lua.create_thread(state.prelude.method("finalise")?)?;
    task.enter_sync(|| thread.resume::<()>(()))
}

/// A Lua state for the job's file, with everything an author can use.
pub(crate) fn build(job: &FileJob, purpose: Purpose) -> Result<LuaState> {
    let lua = Lua::new();
    lua.set_memory_limit(MEMORY_LIMIT)?;
    let lab = || Lab::root(Arc::clone(&job.environment), &job.display);
    let deadline = || Deadline::of_file(job.file_timeout, job.watch.caller());
    let log = Log::default;
    let (lab, deadline, log, listing) = match purpose {
        Purpose::Run => (lab(), deadline(), log(), None),
        Purpose::List(listing) => (lab(), deadline(), log(), Some(listing)),
        Purpose::Build { lab, deadline, log } => (lab, deadline, log, None),
    };
    let native = lua.create_table()?;
    let scope = Scope::file(&job.display);
    let state = TestFileState {
        display: job.display.clone(),
        package_roots: job.package_roots.clone(),
        base: job.base.clone(),
        shown_from: shown_from(&job.path, &job.display),
        lab,
        scope,
        cancel: job.cancel.clone(),
        deadline,
        listing,
        prelude: Prelude::load(&lua, &native)?,
        top_level: TaskGroup::new(None, log),
        sources: RefCell::new(BTreeSet::from([job.display.clone()])),
    };
    set_package_path(&lua, &state)?;
    lua.set_app_data(Rc::new(state));
    file_data::<Settings>(&lua).retries.set(Some(job.retries));
    register(&lua, &native)?;
    Ok(LuaState(lua))
}

/// Registers everything that an author can use.
fn register(lua: &Lua, native: &Table) -> Result<()> {
    natives::register(lua, native)?;
    api::globals::install(lua, native)?;
    // Before other code keeps references to `string.find` and its like.
    let prelude = TestFileState::of(lua).prelude.clone();
    prelude.take_over_strings(lua, native)?;
    prelude.take_over_io(lua, native)?;
    testing::install(lua)?;
    testing::register(lua, native)?;
    api::objects::install(lua, native)?;
    dry_run::register(lua)?;
    hook::install(lua)
}

fn set_package_path(lua: &Lua, state: &TestFileState) -> Result<()> {
    let patterns: Vec<String> = state
        .package_roots
        .iter()
        .flat_map(|root| [format!("{root}/?.lua"), format!("{root}/?/init.lua")])
        .collect();
    let package: Table = lua.globals().get("package")?;
    package.raw_set("path", patterns.join(";"))?;
    package.raw_set("cpath", "")
}
