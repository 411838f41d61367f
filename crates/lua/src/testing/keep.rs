//! Keeps the VMs of a failed test for the user, where the run does that.

use provium_lab::{FailedTest, Lab, Scope, keep_failure};
use provium_pool::CancelToken;

/// Keeps the VMs that the test in `scope` can see, unless those of another test of the run are kept; says
/// how the user enters them, as a line for the test's log.
pub(super) async fn keep(
    lab: &Lab,
    scope: &Scope,
    cancel: &CancelToken,
    failed: FailedTest<'_>,
) -> Option<String> {
    let kept = tokio::select! {
        kept = keep_failure(lab, scope, failed) => kept,
        () = cancel.cancelled() => return None,
    };
    match kept {
        Ok(kept) => kept.map(|kept| kept.hint()),
        Err(error) => Some(format!("the VMs cannot be kept: {error}")),
    }
}
