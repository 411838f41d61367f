//! `provium.reset_between_tests`: every test finds the file's VMs as the top level left them.

use super::Settings;
use crate::engine::file_data::file_data;
use crate::engine::test_file::TestFileState;
use mlua::Lua;
use provium_lab::Baseline;
use std::cell::RefCell;

/// The state that the file's VMs are reset to, once the first test has begun.
#[derive(Debug, Default)]
struct FileBaseline(RefCell<Option<Baseline>>);

/// Takes the baseline before the first test, and puts the VMs back to it before every other. The
/// reason why that could not be done, if it could not.
pub(super) async fn before_test(lua: &Lua) -> Option<String> {
    if !file_data::<Settings>(lua).reset_between_tests.get() {
        return None;
    }
    let state = TestFileState::of(lua);
    let known = file_data::<FileBaseline>(lua);
    let work = async {
        let taken = known.0.take();
        let kept = match taken {
            None => Baseline::take(&state.lab, &state.scope).await,
            Some(baseline) => {
                let restored = baseline.restore(&state.lab).await;
                // Kept whatever came of it: the next test may have more luck.
                known.0.replace(Some(baseline));
                return restored;
            }
        };
        known.0.replace(Some(kept?));
        Ok(())
    };
    let failed = tokio::select! {
        biased;
        done = work => done.err().map(|error| error.to_string()),
        () = state.cancel.cancelled() => Some("the run was ended".to_owned()),
        () = state.deadline.passed() => Some("the file's time is over".to_owned()),
    };
    failed.map(|why| format!("reset_between_tests: {why}"))
}
