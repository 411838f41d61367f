//! Makes a file's Lua machine: standard library, prelude, globals, classes.

use crate::api::{globals, objects};
use crate::binding::class::{async_function, raw_function};
use crate::binding::prelude::Prelude;
use crate::binding::raise::LuaError;
use crate::binding::{stack, text};
use crate::engine::deadline::Deadline;
use crate::engine::dry_run::{self, DryRun};
use crate::engine::failure::{Failure, Frame};
use crate::engine::hook;
use crate::engine::job::FileJob;
use crate::engine::log::Log;
use crate::engine::task::Task;
use crate::engine::test_file::{Settings, TestFileState, base_of};
use crate::fixture::{record_read, record_search};
use crate::testing;
use camino::{Utf8Path, Utf8PathBuf};
use mlua::{AnyUserData, IntoLuaMulti as _, Lua, Result, Table, Value};
use provium_lab::{Lab, Scope};
use provium_pool::FileWatch;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Bytes that a file's Lua state may hold.
pub(crate) const MEMORY_LIMIT: usize = 1 << 30;
/// What Lua raises when it is given no more memory.
pub(crate) const OUT_OF_MEMORY: &str = "not enough memory";

/// The same with the limit in it.
pub(crate) fn out_of_memory() -> String {
    format!(
        "{OUT_OF_MEMORY}: the Lua code of a file may hold {} MiB",
        MEMORY_LIMIT >> 20
    )
}

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
        /// What relative paths of the host are relative to.
        base: Utf8PathBuf,
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
    let task = Task::new(state.scope.clone(), None, deadline, None);
    let thread = lua.create_thread(state.prelude.method("finalise")?)?;
    task.enter_sync(|| thread.resume::<()>(()))
}

/// A Lua state for the job's file, with everything an author can use.
pub(crate) fn build(job: &FileJob, purpose: Purpose) -> Result<LuaState> {
    let lua = Lua::new();
    lua.set_memory_limit(MEMORY_LIMIT)?;
    let lab = || Lab::root(Arc::clone(&job.environment), &job.display);
    let base = || base_of(&job.path, &job.display);
    let deadline = || Deadline::of_file(job.file_timeout, job.watch.caller());
    let log = Log::default;
    let (lab, base, deadline, log, listing) = match purpose {
        Purpose::Run => (lab(), base(), deadline(), log(), None),
        Purpose::List(listing) => (lab(), base(), deadline(), log(), Some(listing)),
        Purpose::Build {
            lab,
            base,
            deadline,
            log,
        } => (lab, base, deadline, log, None),
    };
    let native = lua.create_table()?;
    let scope = Scope::file(&job.display);
    let values = lua.create_table()?;
    let weak = lua.create_table()?;
    weak.raw_set("__mode", "v")?;
    values.set_metatable(Some(weak))?;
    let state = TestFileState {
        display: job.display.clone(),
        package_roots: job.package_roots.clone(),
        base,
        lab,
        scope,
        registry: Default::default(),
        settings: Settings {
            timeout: Cell::new(None),
            retries: Cell::new(Some(job.retries)),
            reset_between_tests: Cell::new(false),
            parallel: Cell::new(false),
        },
        cancel: job.cancel.clone(),
        deadline,
        listing,
        prelude: Prelude::load(&lua, &native)?,
        values,
        early_log: log,
        failed_commands: Default::default(),
        kernel_logs: Default::default(),
        baseline: Default::default(),
        snapshot_bytes: Default::default(),
        tasks: Default::default(),
        children: Default::default(),
        sources: RefCell::new(BTreeSet::from([job.display.clone()])),
    };
    set_package_path(&lua, &state)?;
    lua.set_app_data(Rc::new(state));
    add_native(&lua, &native)?;
    globals::install(&lua, &native)?;
    // Before other code keeps references to `string.find` and its like.
    let prelude = TestFileState::of(&lua).prelude.clone();
    prelude.take_over_strings(&lua, &native)?;
    prelude.take_over_io(&lua, &native)?;
    testing::install(&lua)?;
    testing::register(&lua, &native)?;
    objects::install(&lua, &native)?;
    dry_run::register(&lua)?;
    hook::install(&lua)?;
    Ok(LuaState(lua))
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

/// What the prelude calls and what belongs to no object.
fn add_native(lua: &Lua, native: &Table) -> Result<()> {
    native.raw_set(
        "frames",
        lua.create_function(|lua, ()| stack::save_frames(lua))?,
    )?;
    native.raw_set(
        "expired",
        lua.create_function(
            |_, ()| Ok(Task::current().is_some_and(|task| task.was_interrupted())),
        )?,
    )?;
    let located = lua.create_function(|lua, (text, kind): (mlua::LuaString, Option<String>)| {
        let mut located = match stack::place(lua) {
            Some(site) => format!("{site}: ").into_bytes(),
            None => Vec::new(),
        };
        located.extend_from_slice(&text.as_bytes());
        if kind.as_deref() == Some("assertion") {
            note_assertion(&text::display(&located), stack::frames(lua));
        }
        lua.create_string(located)
    })?;
    native.raw_set(
        "is_result",
        lua.create_function(|_, value: Value| Ok(objects::is_result(&value)))?,
    )?;
    native.raw_set("always_true", testing::ALWAYS_TRUE)?;
    let asserted = |lua: &Lua, ()| Ok(testing::command_asserted(lua));
    native.raw_set("command_asserted", lua.create_function(asserted)?)?;
    native.raw_set(
        "shown",
        lua.create_function(|_, value: Value| Ok(testing::quoted(&value)))?,
    )?;
    // Called by way of `pcall`, a function of Lua's own does not know its name.
    let named = |_: &Lua, (why, name): (mlua::LuaString, String)| {
        Ok(text::display(&why.as_bytes()).replacen("to '?'", &format!("to '{name}'"), 1))
    };
    native.raw_set("named", lua.create_function(named)?)?;
    native.raw_set("located", located)?;
    native.raw_set(
        "read_source",
        raw_function(lua, "require", |lua, args| {
            let path = args.text(0, "the path")?;
            let path = Utf8Path::new(&path);
            record_read(lua, path);
            match read_source(path) {
                Ok(source) => {
                    let state = TestFileState::of(lua);
                    let display = state.display_path(path);
                    let name = format!("@{display}");
                    state.sources.borrow_mut().insert(display);
                    Ok((lua.create_string(source)?, name).into_lua_multi(lua)?)
                }
                Err(error) => Err(LuaError::argument(error.to_string())),
            }
        })?,
    )?;
    let searched = raw_function(lua, "require", |lua, args| {
        let (name, found) = (args.text(0, "the name")?, args.opt_text(1, "the path")?);
        Ok(record_search(lua, &name, found.as_deref())?)
    })?;
    native.raw_set("searched", searched)?;
    add_module_loads(lua, native)
}

/// The load of a module by `require`. Tasks that require the module meanwhile wait for its end.
struct ModuleLoad(Rc<Notify>);

fn add_module_loads(lua: &Lua, native: &Table) -> Result<()> {
    let new = lua.create_function(|lua, ()| lua.create_any_userdata(ModuleLoad(Rc::default())))?;
    native.raw_set("new_load", new)?;
    let end = lua.create_function(|_, load: AnyUserData| {
        load.borrow::<ModuleLoad>()?.0.notify_waiters();
        Ok(())
    })?;
    native.raw_set("end_load", end)?;
    let wait = async_function(lua, "require", true, |_, args| {
        let load = match args.value(1) {
            Value::UserData(load) => load.borrow::<ModuleLoad>().map(|load| Rc::clone(&load.0)),
            _ => Ok(Rc::default()),
        };
        async move {
            load?.notified().await;
            Ok(())
        }
    })?;
    native.raw_set("await_load", wait)
}

/// A failed assertion counts for the test whose code runs, whatever becomes of the error.
fn note_assertion(message: &str, frames: Vec<Frame>) {
    if let Some(run) = Task::current().and_then(|task| task.run.clone()) {
        let mut failure = Failure::new(message);
        failure.frames = frames;
        run.sticky.borrow_mut().get_or_insert(failure);
    }
}

/// A chunk's source. A first line that begins with `#` is blanked, as Lua does for scripts.
pub(crate) fn read_source(path: &Utf8Path) -> std::io::Result<Vec<u8>> {
    // Reading a pipe or a terminal could take for ever.
    if !fs_err::metadata(path)?.is_file() {
        let text = format!("`{path}` is not a regular file");
        return Err(std::io::Error::other(text));
    }
    let mut source = fs_err::read(path)?;
    if let Some(rest) = source.strip_prefix(b"\xef\xbb\xbf") {
        source = rest.to_vec();
    }
    if source.starts_with(b"#") {
        let end = source
            .iter()
            .position(|byte| *byte == b'\n')
            .unwrap_or(source.len());
        source.drain(..end);
    }
    Ok(source)
}
