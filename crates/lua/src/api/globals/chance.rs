//! `math.random` begins from the run's seed, so that a run can be repeated; in a fixture, from the
//! fixture's path alone, since what is kept must not depend on the run that happened to build it.

use crate::engine::test_file::TestFileState;
use mlua::{Function, Lua, Result, Table};
use sha2::{Digest as _, Sha256};

/// Seeds it.
pub(crate) fn install(lua: &Lua) -> Result<()> {
    let state = TestFileState::of(lua);
    let seed = match state.lab.recorder() {
        Some(_) => 0,
        None => state.lab.environment().seed(),
    };
    let digest = Sha256::new_with_prefix(seed.to_le_bytes()).chain_update(&state.display);
    let digest: [u8; 32] = digest.finalize().into();
    let ([first, second, ..], _) = digest.as_chunks::<8>() else {
        return Ok(());
    };
    let math: Table = lua.globals().get("math")?;
    let seed: Function = math.get("randomseed")?;
    seed.call::<()>((i64::from_le_bytes(*first), i64::from_le_bytes(*second)))
}
