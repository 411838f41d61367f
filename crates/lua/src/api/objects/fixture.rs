//! What labs do with fixtures: `vm_fixture`, `lab_fixture`, `depends_on_file`.

use super::lab::{self, LabObject};
use super::paths::host_source;
use super::value::call_site;
use super::vm;
use crate::binding::args::Args;
use crate::binding::class::Class;
use crate::binding::raise::LuaError;
use crate::engine::job::FileJob;
use crate::engine::task::Task;
use crate::engine::test_file::{TestFileState, base_of};
use crate::fixture::{BuildContext, build};
use camino::{Utf8Path, Utf8PathBuf};
use mlua::{Lua, Result};
use provium_lab::nearest::nearest;
use provium_lab::{FixtureSource, Lab, lab_fixture, vm_fixture};
use std::rc::Rc;
use std::sync::Arc;

/// How the names of fixtures end.
const SUFFIX: &str = ".fixture.lua";

/// Adds them.
pub(super) fn add(class: Class<'_, LabObject>) -> Result<Class<'_, LabObject>> {
    let rooted = TestFileState::of(class.lua()).prelude.method("rooted")?;
    class
        .async_method("vm_fixture", |lua, this, args| async move {
            let request = FixtureRequest::new(&lua, &args)?;
            let scope = call_site(&lua).0.file_scope().clone();
            let build = async |lab: Lab| build(&request.context, lab).await;
            let name = request.name.as_deref();
            let made = vm_fixture(&this.0, &scope, &request.source, name, build);
            Ok(vm::value(&lua, &made.await?)?)
        })?
        .async_method("lab_fixture", |lua, this, args| async move {
            let request = FixtureRequest::new(&lua, &args)?;
            let scope = call_site(&lua).0.file_scope().clone();
            let build = async |lab: Lab| build(&request.context, lab).await;
            let name = request.name.as_deref();
            let made = lab_fixture(&this.0, &scope, &request.source, name, build);
            Ok(lab::value(&lua, &made.await?)?)
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

/// A fixture that is request, and what its script would be run with.
struct FixtureRequest {
    source: FixtureSource,
    context: BuildContext,
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
        let source = FixtureSource {
            path: path.clone(),
            display: display.clone(),
        };
        Ok(Self {
            name: options.text("name")?,
            context: context(&state, path, display),
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
        format!("; there is no {}", looked.join(", no "))
    };
    Err(LuaError::argument(format!(
        "fixture `{given}` not found in any test root{hint}"
    )))
}

/// The fixture in the same folder whose name is nearest to that of `path`, which is not there.
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
fn context(state: &TestFileState, path: Utf8PathBuf, display: String) -> BuildContext {
    let environment = Arc::clone(state.lab.environment());
    let task = Task::current();
    let run = task.as_ref().and_then(|task| task.run.as_ref());
    let deadline = task.as_ref().map(|task| Rc::clone(&task.deadline));
    BuildContext {
        log: Rc::clone(run.map_or(&state.early_log, |run| &run.log)),
        base: base_of(&path, &display),
        deadline: deadline.unwrap_or_else(|| Rc::clone(&state.deadline)),
        job: FileJob {
            path,
            display,
            package_roots: state.package_roots.clone(),
            selection: Default::default(),
            retries: 0,
            file_timeout: None,
            sink: environment.sink().clone(),
            environment,
            cancel: state.cancel.clone(),
            // The deadline has that of the file.
            watch: Default::default(),
        },
    }
}
