//! What one test file has while it runs: its Lua state's companion in Rust.

use crate::engine::deadline::Deadline;
use crate::engine::dry_run::DryRun;
use crate::engine::prelude::Prelude;
use crate::engine::task::{Task, TaskGroup};
use camino::{Utf8Path, Utf8PathBuf};
use mlua::Lua;
use provium_lab::{Lab, Scope};
use provium_pool::CancelToken;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

/// A file's state. Reached from everywhere through its Lua state.
pub(crate) struct TestFileState {
    /// The file's path as people see it.
    pub(crate) display: String,
    /// Folders that `require` looks in.
    pub(crate) package_roots: Vec<Utf8PathBuf>,
    /// What relative paths of the host are relative to.
    pub(crate) base: Utf8PathBuf,
    /// What `display` is relative to; empty, if it is absolute.
    pub(crate) shown_from: Utf8PathBuf,
    /// The file's scope.
    pub(crate) scope: Scope,
    /// The root lab.
    pub(crate) lab: Lab,
    /// The user wants the run to end.
    pub(crate) cancel: CancelToken,
    /// Until when the whole file may run.
    pub(crate) deadline: Rc<Deadline>,
    /// Set when the file is only listed.
    pub(crate) listing: Option<Rc<DryRun>>,
    /// The part of the API that is written in Lua.
    pub(crate) prelude: Prelude,
    /// The tasks of the file's top level. What they printed begins the log of the next test.
    pub(crate) top_level: Rc<TaskGroup>,
    /// Files that Lua code was read from, as people see them.
    pub(crate) sources: RefCell<BTreeSet<String>>,
}

impl TestFileState {
    /// The state that belongs to `lua`.
    #[expect(
        clippy::expect_used,
        reason = "put there before any code can run in the Lua state"
    )]
    pub(crate) fn of(lua: &Lua) -> Rc<Self> {
        let state = lua
            .app_data_ref::<Rc<Self>>()
            .expect("a Lua state is made with its file's state");
        Rc::clone(&state)
    }

    /// The scope that what is made now belongs to.
    pub(crate) fn current_scope(&self) -> Scope {
        Task::current().map_or_else(|| self.scope.clone(), |task| task.scope.clone())
    }

    /// The test, or the top level, whose code runs now.
    pub(crate) fn current_group(&self) -> Rc<TaskGroup> {
        Task::current().map_or_else(|| Rc::clone(&self.top_level), |task| Rc::clone(&task.group))
    }

    /// A path as people see it: relative to the folder in which they are, or else to a root.
    pub(crate) fn display_path(&self, path: &Utf8Path) -> String {
        let roots = [&self.shown_from, &self.base];
        let roots = roots.into_iter().chain(&self.package_roots);
        for root in roots.filter(|root| !root.as_str().is_empty()) {
            if let Ok(relative) = path.strip_prefix(root) {
                return relative.to_string();
            }
        }
        path.to_string()
    }

    /// What relative paths of the host are relative to in another file: its root, or else its folder.
    pub(crate) fn base_of(&self, path: &Utf8Path) -> Utf8PathBuf {
        let roots = std::iter::once(&self.base).chain(&self.package_roots);
        let mut roots = roots.filter(|root| path.starts_with(root));
        let root = roots.next().map(Utf8PathBuf::as_path);
        root.or(path.parent()).unwrap_or(path).to_owned()
    }
}

/// What `display` is relative to, when `path` ends in it; empty, if it is relative to nothing.
pub(crate) fn shown_from(path: &Utf8Path, display: &str) -> Utf8PathBuf {
    if Utf8Path::new(display).is_absolute() {
        return Utf8PathBuf::new();
    }
    let folder = path.as_str().strip_suffix(display).unwrap_or_default();
    Utf8PathBuf::from(folder.trim_end_matches('/'))
}
