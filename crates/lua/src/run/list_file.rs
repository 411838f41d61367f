//! Lists a file's tests without a guest; see [`crate::engine::dry_run`] for what its calls do meanwhile.

use crate::engine::drive::{TaskEnd, drive};
use crate::engine::dry_run::DryRun;
use crate::engine::failure::Failure;
use crate::engine::file_data::file_data;
use crate::engine::test_file::TestFileState;
use crate::file::chunk::{file_task, load};
use crate::file::job::{ChunkError, DeclaredTest, FileJob, TestListing};
use crate::file::lua_state::{self, Purpose};
use crate::testing::{Registry, report};
use std::cell::RefCell;
use std::rc::Rc;
use tokio::task::LocalSet;

/// The tests the file declares. Its top level is run on this thread, but nothing boots.
pub fn list_file(job: &FileJob) -> Result<TestListing, ChunkError> {
    let built = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = built.map_err(|error| ChunkError::plain(format!("cannot start: {error}")))?;
    LocalSet::new().block_on(&runtime, list(job))
}

async fn list(job: &FileJob) -> Result<TestListing, ChunkError> {
    let crashed = |error| ChunkError::from(Failure::from(error));
    let dry = Rc::new(DryRun::default());
    let lua = lua_state::build(job, Purpose::List(Rc::clone(&dry))).map_err(crashed)?;
    let state = TestFileState::of(&lua);
    let chunk = load(&lua, job)?;
    let ended = drive(&lua, &file_task(&state), chunk, ())
        .await
        .map_err(crashed)?;
    for task in state.top_level.tasks.take() {
        task.stop();
    }
    let partial = match ended {
        TaskEnd::Returned(_) => None,
        TaskEnd::Failed(failure) | TaskEnd::TimedOut(failure) if dry.was_used() => {
            let place = failure
                .site()
                .map(|site| format!(" at {site}"))
                .unwrap_or_default();
            Some(format!("the file needs a guest to continue{place}"))
        }
        TaskEnd::Failed(failure) | TaskEnd::TimedOut(failure) => {
            return Err(ChunkError::from(failure));
        }
        TaskEnd::Cancelled => return Err(ChunkError::plain("cancelled: the run was ended")),
    };
    let registry = file_data::<RefCell<Registry>>(&lua).take();
    let tests = registry.tests.iter().map(|test| DeclaredTest {
        name: test.name.clone(),
        line: test.site.line,
        tags: test.meta.tags.clone(),
        slow: test.meta.slow,
        skip: registry.todo.clone().or_else(|| test.meta.skip.clone()),
        selected: job.selection.asks_for(test),
        meta: report::meta_event(&test.meta),
    });
    Ok(TestListing {
        tests: tests.collect(),
        partial,
    })
}
