//! `math.random` begins from the run's seed, so that a run can be repeated; in a fixture, from the
//! fixture's path alone, since what is kept must not depend on the run that happened to build it.
//!
//! The first number that a file asks for is reported: only then does the seed matter.

use crate::engine::test_file::TestFileState;
use camino::Utf8PathBuf;
use mlua::{Function, Lua, MultiValue, Result, Table};
use provium_events::Event;
use sha2::{Digest as _, Sha256};

/// Seeds it.
pub(crate) fn install(lua: &Lua) -> Result<()> {
    let state = TestFileState::of(lua);
    let in_fixture = state.lab.recorder().is_some();
    let seed = match in_fixture {
        true => 0,
        false => state.lab.environment().seed(),
    };
    let name = name_in_root(&state);
    let digest = Sha256::new_with_prefix(seed.to_le_bytes()).chain_update(name.as_str());
    let digest: [u8; 32] = digest.finalize().into();
    let ([first, second, ..], _) = digest.as_chunks::<8>() else {
        return Ok(());
    };
    let math: Table = lua.globals().get("math")?;
    let seed: Function = math.get("randomseed")?;
    seed.call::<()>((i64::from_le_bytes(*first), i64::from_le_bytes(*second)))?;
    if !in_fixture && state.listing.is_none() {
        report_first_use(lua, &math)?;
    }
    Ok(())
}

/// The file's path in its root: the same wherever the run is started.
fn name_in_root(state: &TestFileState) -> Utf8PathBuf {
    let path = state.shown_from.join(&state.display);
    let in_root = path.strip_prefix(&state.base);
    in_root.unwrap_or(&path).to_owned()
}

/// Lets the first call of `math.random` report itself, and take itself out of the way.
fn report_first_use(lua: &Lua, math: &Table) -> Result<()> {
    let random: Function = math.get("random")?;
    let place = math.clone();
    let first = lua.create_function(move |lua, args: MultiValue| {
        let state = TestFileState::of(lua);
        let path = state.display.clone();
        state
            .lab
            .environment()
            .sink()
            .emit(Event::SeedUsed { path });
        place.raw_set("random", random.clone())?;
        random.call::<MultiValue>(args)
    })?;
    math.raw_set("random", first)
}
