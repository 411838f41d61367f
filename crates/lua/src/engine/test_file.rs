//! What one test file has while it runs: its Lua state's companion in Rust.

use crate::api::globals::Children;
use crate::binding::prelude::Prelude;
use crate::engine::deadline::Deadline;
use crate::engine::dry_run::DryRun;
use crate::engine::failed_commands::FailedCommands;
use crate::engine::log::Log;
use crate::engine::task::Task;
use crate::testing::{FileBaseline, LogCursors, Registry};
use camino::{Utf8Path, Utf8PathBuf};
use mlua::{Lua, Table};
use provium_lab::{Lab, Scope};
use provium_pool::CancelToken;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

/// A file's state. Reached from everywhere through its Lua state.
pub(crate) struct TestFileState {
    /// The file's path as people see it, relative to its root.
    pub(crate) display: String,
    /// Folders that `require` looks in.
    pub(crate) package_roots: Vec<Utf8PathBuf>,
    /// What `display` is relative to.
    pub(crate) base: Utf8PathBuf,
    /// The file's scope.
    pub(crate) scope: Scope,
    /// The root lab.
    pub(crate) lab: Lab,
    /// Tests, in the order they were declared.
    pub(crate) registry: RefCell<Registry>,
    /// `provium.timeout` and its like.
    pub(crate) settings: Settings,
    /// The user wants the run to end.
    pub(crate) cancel: CancelToken,
    /// Until when the whole file may run.
    pub(crate) deadline: Rc<Deadline>,
    /// Set when the file is only listed.
    pub(crate) listing: Option<Rc<DryRun>>,
    /// The part of the API that is written in Lua.
    pub(crate) prelude: Prelude,
    /// Values of resources that Lua has in hand, by resource.
    pub(crate) values: Table,
    /// What was printed outside of any test; the next test's log begins with it.
    pub(crate) early_log: Log,
    /// Commands that failed at the top level.
    pub(crate) failed_commands: FailedCommands,
    /// How far the consoles of the file's VMs were looked through for reports.
    pub(crate) kernel_logs: LogCursors,
    /// What the file's VMs are put back to between tests.
    pub(crate) baseline: FileBaseline,
    /// Bytes of snapshots in the cache since Lua's garbage was collected for their sake.
    pub(crate) snapshot_bytes: Cell<u64>,
    /// Tasks started at file scope.
    pub(crate) tasks: RefCell<Vec<Rc<Task>>>,
    /// Commands of `io.popen` that were started at file scope.
    pub(crate) children: Children,
    /// Files that Lua code was read from, as people see them.
    pub(crate) sources: RefCell<BTreeSet<String>>,
}

/// What a file sets for all its tests.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    /// Per test, unless the test's meta says otherwise.
    pub(crate) timeout: Cell<Option<Duration>>,
    /// How often a failed test is tried again.
    pub(crate) retries: Cell<Option<u32>>,
    /// Whether each test finds the file's VMs as the top level left them.
    pub(crate) reset_between_tests: Cell<bool>,
    /// Whether tests run side by side, each on a copy of the file's lab.
    pub(crate) parallel: Cell<bool>,
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

    /// A path as people see it: relative to the file's root or to a package root.
    pub(crate) fn display_path(&self, path: &Utf8Path) -> String {
        let roots = std::iter::once(&self.base).chain(&self.package_roots);
        for root in roots.filter(|root| !root.as_str().is_empty()) {
            if let Ok(relative) = path.strip_prefix(root) {
                return relative.to_string();
            }
        }
        path.to_string()
    }
}

/// What `display` is relative to, when `path` ends in it; the file's own folder, if it is relative to
/// nothing.
pub fn base_of(path: &Utf8Path, display: &str) -> Utf8PathBuf {
    if Utf8Path::new(display).is_absolute() {
        return path.parent().unwrap_or(path).to_owned();
    }
    let base = path.as_str().strip_suffix(display).unwrap_or_default();
    Utf8PathBuf::from(base.trim_end_matches('/'))
}
