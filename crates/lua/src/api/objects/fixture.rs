//! What labs do with fixtures: `vm_fixture`, `lab_fixture`, `depends_on_file`.

use super::handles::{LabObject, lab_value, vm_value};
use super::paths::host_source;
use super::value::call_site;
use crate::binding::args::Args;
use crate::binding::class::Class;
use crate::binding::raise::LuaError;
use crate::engine::deadline::Deadline;
use crate::engine::log::Log;
use crate::engine::task::Task;
use crate::engine::test_file::TestFileState;
use camino::{Utf8Path, Utf8PathBuf};
use mlua::{Lua, Result};
use provium_lab::nearest::nearest;
use provium_lab::{BuildOutput, FixtureSource, Lab, lab_fixture, vm_fixture};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

/// How the names of fixtures end.
const SUFFIX: &str = ".fixture.lua";

/// Adds them.
pub(super) fn add(class: Class<'_, LabObject>) -> Result<Class<'_, LabObject>> {
    let rooted = TestFileState::of(class.lua()).prelude.method("rooted")?;
    class
        .async_method("vm_fixture", |lua, this, args| async move {
            let request = FixtureRequest::new(&lua, &args)?;
            let scope = call_site(&lua).0.file_scope().clone();
            let builder = FixtureBuilder::of(&lua)?;
            let build = async |lab: Lab| builder.build(&lua, &request.script, lab).await;
            let name = request.name.as_deref();
            let made = vm_fixture(&this.0, &scope, &request.source, name, build);
            Ok(vm_value(&lua, &made.await?)?)
        })?
        .async_method("lab_fixture", |lua, this, args| async move {
            let request = FixtureRequest::new(&lua, &args)?;
            let scope = call_site(&lua).0.file_scope().clone();
            let builder = FixtureBuilder::of(&lua)?;
            let build = async |lab: Lab| builder.build(&lua, &request.script, lab).await;
            let name = request.name.as_deref();
            let made = lab_fixture(&this.0, &scope, &request.source, name, build);
            Ok(lab_value(&lua, &made.await?)?)
        })?
        .wrapped_by("vm_fixture", &rooted)?
        .wrapped_by("lab_fixture", &rooted)?
        .method("depends_on_file", |lua, this, args| {
            let path = host_source(lua, &args.text(0, "the host path")?, true)?;
            if !path.is_file() {
                return Err(LuaError::argument(format!(
                    "`{path}` is not a file of the host"
                )));
            }
            if let Some(recorder) = this.0.recorder() {
                recorder.file(&path);
            }
            Ok(())
        })
}

/// The script of a fixture, and what it is run with.
#[derive(Clone)]
pub(crate) struct FixtureScript {
    pub(crate) source: FixtureSource,
    /// Until when it may run.
    pub(crate) deadline: Rc<Deadline>,
    /// Receives what the script prints, whether the build succeeds or not.
    pub(crate) log: Log,
}

type Build = Pin<Box<dyn Future<Output = std::result::Result<BuildOutput, LuaError>>>>;

/// Runs the scripts of fixtures. A script runs in a Lua state of its own, which has the whole API, so it is
/// run by a layer above; the Lua state of a file is given the builder.
#[derive(Clone)]
pub(crate) struct FixtureBuilder(Rc<dyn Fn(Rc<TestFileState>, FixtureScript, Lab) -> Build>);

impl FixtureBuilder {
    pub(crate) fn new<F>(
        build: impl Fn(Rc<TestFileState>, FixtureScript, Lab) -> F + 'static,
    ) -> Self
    where
        F: Future<Output = std::result::Result<BuildOutput, LuaError>> + 'static,
    {
        Self(Rc::new(move |state, script, lab| {
            Box::pin(build(state, script, lab))
        }))
    }

    fn of(lua: &Lua) -> std::result::Result<Self, LuaError> {
        let builder = lua.app_data_ref::<Self>().map(|builder| builder.clone());
        builder.ok_or_else(|| LuaError::argument("fixtures cannot be built here"))
    }

    async fn build(
        &self,
        lua: &Lua,
        script: &FixtureScript,
        lab: Lab,
    ) -> std::result::Result<BuildOutput, LuaError> {
        (self.0)(TestFileState::of(lua), script.clone(), lab).await
    }
}

/// A fixture that is requested.
struct FixtureRequest {
    source: FixtureSource,
    script: FixtureScript,
    name: Option<String>,
}

impl FixtureRequest {
    fn new(lua: &Lua, args: &Args) -> std::result::Result<Self, LuaError> {
        let given = args.text(0, "the fixture's path")?;
        let options = args.options(1, &["name"])?;
        let path = find(&TestFileState::of(lua), &given)?;
        let unreadable = |error| LuaError::argument(format!("cannot look up `{path}`: {error}"));
        // One file, one name: that decides what the script's own paths are relative to.
        let path = path.canonicalize_utf8().map_err(unreadable)?;
        let state = TestFileState::of(lua);
        let display = state.display_path(&path);
        let source = FixtureSource { path, display };
        Ok(Self {
            name: options.text("name")?,
            script: script(&state, source.clone()),
            source,
        })
    }
}

/// The fixture that an author calls `given`, with or without the end of its file's name: the file's own
/// root is looked through first, then the others.
fn find(state: &TestFileState, given: &str) -> std::result::Result<Utf8PathBuf, LuaError> {
    let file = if given.ends_with(SUFFIX) {
        given.to_owned()
    } else {
        format!("{given}{SUFFIX}")
    };
    let mut roots = vec![&state.base];
    roots.extend(&state.package_roots);
    roots.dedup();
    let places: Vec<Utf8PathBuf> = roots.iter().map(|root| root.join(&file)).collect();
    if let Some(found) = places.iter().find(|place| place.is_file()) {
        return Ok(found.clone());
    }
    let hint = if let Some(name) = places.iter().find_map(|place| suggest(place)) {
        format!("; did you mean `{name}`?")
    } else if roots.iter().any(|root| root.join(given).is_file()) {
        format!("; `{given}` is there, but the names of fixtures end in `{SUFFIX}`")
    } else {
        let looked: Vec<String> = places.iter().map(|place| format!("`{place}`")).collect();
        format!("; looked for {}", looked.join(", "))
    };
    Err(LuaError::argument(format!(
        "fixture `{given}` not found in any test root{hint}"
    )))
}

/// The fixture in the same folder whose name is nearest to the name of `path`, which does not exist.
fn suggest(path: &Utf8Path) -> Option<String> {
    let entries = path.parent()?.read_dir_utf8().ok()?.flatten();
    let names = entries.map(|entry| entry.file_name().to_owned());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(SUFFIX)).collect();
    names.sort();
    let stems = names.iter().filter_map(|name| name.strip_suffix(SUFFIX));
    let stem = path.file_name()?.strip_suffix(SUFFIX)?;
    nearest(stem, stems).map(|stem| format!("{stem}{SUFFIX}"))
}

/// Within the time of the task that wants it.
fn script(state: &TestFileState, source: FixtureSource) -> FixtureScript {
    let deadline = Task::current().map(|task| Rc::clone(&task.deadline));
    FixtureScript {
        deadline: deadline.unwrap_or_else(|| Rc::clone(&state.deadline)),
        log: Rc::clone(&state.current_group().log),
        source,
    }
}
