//! Makes a file's Lua machine: standard library, prelude, globals, classes.

use crate::class::{raw_function, waiting_function};
use crate::deadline::Deadline;
use crate::failure::{Failure, Frame};
use crate::file::{FileState, Log, Settings, base_of};
use crate::fixture::{note_file, note_search};
use crate::job::FileJob;
use crate::listing::{self, Listing};
use crate::prelude::Prelude;
use crate::raise::Raise;
use crate::task::Task;
use crate::{globals, hook, objects, stack, testing};
use camino::{Utf8Path, Utf8PathBuf};
use mlua::{IntoLuaMulti as _, Lua, Result, Table};
use provium_lab::{Lab, Scope};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

/// What a file's Lua state is for.
pub(crate) enum Purpose {
    /// To run its tests.
    Run,
    /// To list them.
    List(Rc<Listing>),
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

/// A Lua state for the job's file, with everything an author can use.
pub(crate) fn build(job: &FileJob, purpose: Purpose) -> Result<Lua> {
    let lua = Lua::new();
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
    let state = FileState {
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
        kernel_logs: Default::default(),
        baseline: Default::default(),
        snapshot_bytes: Default::default(),
        tasks: Default::default(),
    };
    set_package_path(&lua, &state)?;
    lua.set_app_data(Rc::new(state));
    add_native(&lua, &native)?;
    globals::install(&lua, &native)?;
    testing::install(&lua)?;
    testing::register(&lua, &native)?;
    objects::install(&lua, &native)?;
    listing::register(&lua)?;
    hook::install(&lua)?;
    Ok(lua)
}

fn set_package_path(lua: &Lua, state: &FileState) -> Result<()> {
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
    native.raw_set("frames", lua.create_function(|lua, ()| stack::keep(lua))?)?;
    native.raw_set(
        "expired",
        lua.create_function(
            |_, ()| Ok(Task::current().is_some_and(|task| task.was_interrupted())),
        )?,
    )?;
    let located = lua.create_function(|lua, (text, kind): (mlua::LuaString, Option<String>)| {
        let text = text.to_string_lossy();
        let located = match stack::place(lua) {
            Some(site) => format!("{site}: {text}"),
            None => text,
        };
        if kind.as_deref() == Some("assertion") {
            note_assertion(&located, stack::frames(lua));
        }
        lua.create_string(located)
    })?;
    native.raw_set("located", located)?;
    native.raw_set(
        "read_source",
        raw_function(lua, "require", |lua, args| {
            let path = args.text(0, "the path")?;
            let path = Utf8Path::new(&path);
            note_file(lua, path);
            match read_source(path) {
                Ok(source) => {
                    let name = format!("@{}", FileState::of(lua).display_path(path));
                    Ok((lua.create_string(source)?, name).into_lua_multi(lua)?)
                }
                Err(error) => Err(Raise::argument(error.to_string())),
            }
        })?,
    )?;
    let searched = raw_function(lua, "require", |lua, args| {
        let (name, found) = (args.text(0, "the name")?, args.opt_text(1, "the path")?);
        Ok(note_search(lua, &name, found.as_deref())?)
    })?;
    native.raw_set("searched", searched)?;
    let pause = waiting_function(lua, "require", true, |_, _| async {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        Ok(())
    })?;
    native.raw_set("pause", pause)
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
