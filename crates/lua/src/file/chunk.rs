//! A file's chunk, and the task that runs it.

use crate::api::globals::read_source;
use crate::engine::failure::Failure;
use crate::engine::task::Task;
use crate::engine::test_file::TestFileState;
use crate::file::job::{ChunkError, FileJob};
use mlua::{Function, Lua};
use provium_lab::Site;
use std::rc::Rc;

/// The task of the file's top level.
pub(crate) fn file_task(state: &TestFileState) -> Rc<Task> {
    let home = Site {
        file: state.display.clone(),
        line: 1,
    };
    Task::new(
        state.scope.clone(),
        Rc::clone(&state.top_level),
        Rc::clone(&state.deadline),
        Some(home),
    )
}

/// The file's chunk.
pub(crate) fn load(lua: &Lua, job: &FileJob) -> Result<Function, ChunkError> {
    let source = read_source(&job.path).map_err(|error| ChunkError::plain(error.to_string()))?;
    let chunk = lua.load(source).set_name(format!("@{}", job.display));
    let chunk = chunk.set_mode(mlua::chunk::ChunkMode::Text);
    chunk.into_function().map_err(|error| {
        let message = Failure::from(error).message;
        let site = site_in(&message, &job.display);
        ChunkError {
            message,
            site,
            traceback: Vec::new(),
        }
    })
}

/// The place that a message begins with, as `file:line:`.
fn site_in(message: &str, display: &str) -> Option<Site> {
    let (file, rest) = message.split_once(':')?;
    let line: u32 = rest.split(':').next()?.parse().ok()?;
    // Lua cuts long names; the line is right all the same.
    let file = if file.starts_with("...") {
        display
    } else {
        file
    };
    Some(Site {
        file: file.to_owned(),
        line,
    })
}
