//! Makes warm VMs in the background.

use crate::environment::Environment;
use crate::save::restore::{RestoreRequest, StandbyVm};
use crate::save::warm_pool::Reuse;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// What lists of processes show a warm VM as.
const NAME: &str = "warm";

/// How long the guest of a warm VM may take for its command, before the timeout multiplier.
const WARM_UP_LIMIT: Duration = Duration::from_secs(10);

/// Counts a restore, and makes a warm VM for the next one if that is likely.
pub(crate) fn prewarm(environment: &Arc<Environment>, request: RestoreRequest, reuse: Reuse) {
    let room = environment.budget().room();
    let pool = &environment.warm_pool;
    if !pool.should_prewarm(&request.saved, reuse, room) {
        return;
    }
    let for_task = Arc::clone(environment);
    environment.chore(async move {
        let pool = &for_task.warm_pool;
        let made = tokio::select! {
            biased;
            () = pool.closed() => None,
            made = make(&for_task, &request) => made,
        };
        pool.insert(&request.saved, made);
    });
}

async fn make(environment: &Environment, request: &RestoreRequest) -> Option<StandbyVm> {
    let mut vm = request.load(NAME, &environment.host()?.qemu).await.ok()?;
    if request.can_warm_up() {
        let limit = environment.patient(WARM_UP_LIMIT);
        match timeout(limit, vm.warm_up()).await {
            Ok(Ok(())) => {}
            // A guest that fails now would also fail as a VM, where a test sees it.
            failed => {
                tracing::debug!(?failed, "a warm VM failed");
                return None;
            }
        }
    }
    Some(vm)
}
