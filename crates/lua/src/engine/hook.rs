//! Interrupts Lua code that does not come back: a hook looks at the clock every so many
//! instructions, and once the time is up it raises at every one, so that no `pcall` can hide from it.
//! Native code that may take long calls [`check`] now and then.

use crate::engine::frames::frames;
use crate::engine::task::Task;
use crate::engine::test_file::TestFileState;
use mlua::debug::Debug;
use mlua::{HookTriggers, Lua, Result, VmState};

/// Instructions between two looks at the clock: some tenths of a millisecond.
const INTERVAL: u32 = 10_000;

/// What interrupted code raises.
const TIME_IS_UP: &str = "interrupted: the time is up";

/// Installs the hook for all coroutines made from now on.
pub(crate) fn install(lua: &Lua) -> Result<()> {
    every(lua, INTERVAL)
}

/// New coroutines look at the clock seldom again, now that an interrupted one has ended.
pub(crate) fn reset_interval(lua: &Lua) -> Result<()> {
    every(lua, INTERVAL)
}

fn every(lua: &Lua, instructions: u32) -> Result<()> {
    lua.set_global_hook(
        HookTriggers::new().every_nth_instruction(instructions),
        look,
    )
}

fn look(lua: &Lua, _: &Debug<'_>) -> Result<VmState> {
    check(lua).map(|()| VmState::Continue)
}

/// Checks that the running task may continue.
///
/// # Errors
/// The task's time is over or the run was cancelled; the running Lua code must stop.
pub(crate) fn check(lua: &Lua) -> Result<()> {
    let Some(task) = Task::current() else {
        return Ok(());
    };
    if !task.must_stop(TestFileState::of(lua).cancel.is_cancelled()) {
        return Ok(());
    }
    task.interrupt(|| frames(lua));
    // This also sets the hook of the coroutine that runs now.
    every(lua, 1)?;
    Err(mlua::Error::runtime(TIME_IS_UP))
}
