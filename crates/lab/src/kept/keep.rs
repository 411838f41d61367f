//! Saves the VMs of a failed test.

use crate::apart::apart;
use crate::error::LabError;
use crate::graph::lab::Lab;
use crate::kept::keeper::{KeepPermit, KeptFailureSummary};
use crate::kept::manifest::{KeptManifest, KeptState, KeptVm};
use crate::resource::Scope;
use crate::snapshot::Snapshot;
use crate::snapshot::save_each::save_each;
use crate::vm::{Vm, VmState};
use camino::Utf8Path;
use futures_util::future::join_all;
use std::collections::BTreeSet;
use std::io;
use std::iter::successors;

/// How much is kept of the console of a VM that cannot be saved, bytes.
const CONSOLE_KEPT: u64 = 1 << 20;

/// A test that has failed.
#[derive(Debug, Clone, Copy)]
pub struct FailedTest<'a> {
    /// Its name.
    pub name: &'a str,
    /// Why it failed.
    pub reason: &'a str,
}

/// Saves all VMs that a test in `scope` can see, at one instant, if the environment
/// [keeps failures](crate::Environment::keep_first_failure) and none was kept in this run. VMs that are off
/// are left out. `None` if nothing was kept.
///
/// # Errors
/// When the cache cannot be written.
pub async fn keep_failure(
    lab: &Lab,
    scope: &Scope,
    failed: FailedTest<'_>,
) -> Result<Option<KeptFailureSummary>, LabError> {
    let environment = lab.environment();
    let Some(keeper) = environment.failure_keeper() else {
        return Ok(None);
    };
    let vms = visible(lab, scope);
    if vms.is_empty() {
        return Ok(None);
    }
    let Some(permit) = keeper.permit() else {
        return Ok(None);
    };
    let saved = apart(environment.runtime(), save(vms)).await;
    let saved = saved.map_err(not_kept)?;
    let kept = install(&permit, &lab.file_context().path, failed, saved).await?;
    Ok(Some(kept.clone()))
}

async fn install<'a>(
    permit: &'a KeepPermit<'_>,
    file: &str,
    failed: FailedTest<'_>,
    saved: Vec<SaveResult>,
) -> Result<&'a KeptFailureSummary, LabError> {
    let failures = permit.failures();
    let bucket = failures.bucket();
    let staging = bucket.staging_folder().map_err(not_kept)?;
    let parts = saved.into_iter().enumerate();
    let parts = parts.map(|(number, one)| one.put(staging.path(), number));
    let vms: io::Result<Vec<KeptVm>> = parts.collect();
    let manifest = KeptManifest::new(file, failed.name, failed.reason, vms.map_err(not_kept)?);
    manifest.write(staging.path()).map_err(not_kept)?;
    let key = manifest.key();
    let build = bucket.claim_build(&key).await.map_err(not_kept)?;
    build.install(staging).await.map_err(not_kept)?;
    failures.prune().map_err(not_kept)?;
    Ok(permit.kept(key, failed.name, manifest.vms))
}

fn not_kept(error: impl std::error::Error + Send + Sync + 'static) -> LabError {
    LabError::host("the failed test", "keep its VMs", error)
}

/// The VMs that a test in `scope` can see, each once, without those that are off.
fn visible(lab: &Lab, scope: &Scope) -> Vec<Vm> {
    let mut seen = BTreeSet::new();
    let scopes = successors(Some(scope), |scope| scope.parent());
    let vms = scopes.flat_map(|scope| lab.all_vms(scope));
    vms.filter(|vm| !vm.is_off() && seen.insert(vm.id()))
        .collect()
}

/// A VM, and what could be saved of it.
struct SaveResult {
    vm: Vm,
    result: Result<Snapshot, String>,
}

async fn save(vms: Vec<Vm>) -> Vec<SaveResult> {
    let (dead, alive): (Vec<Vm>, Vec<Vm>) =
        vms.into_iter().partition(|vm| vm.state() == VmState::Dead);
    // The agent of a paused guest cannot be quiesced: it is resumed for a moment.
    let paused = alive.iter().filter(|vm| vm.state() == VmState::Paused);
    let paused: Vec<&Vm> = paused.collect();
    // One that cannot be resumed cannot be saved either, which is reported then.
    join_all(
        paused
            .iter()
            .map(|vm| async move { vm.power().resume().await }),
    )
    .await;
    let saved = save_each(&alive).await;
    join_all(
        paused
            .iter()
            .map(|vm| async move { vm.power().pause().await }),
    )
    .await;
    let alive = alive.into_iter().zip(saved).map(|(vm, result)| SaveResult {
        result: result.map_err(|error| error.to_string()),
        vm,
    });
    let dead = dead.into_iter().map(|vm| SaveResult {
        result: Err(how_it_died(&vm)),
        vm,
    });
    alive.chain(dead).collect()
}

fn how_it_died(vm: &Vm) -> String {
    // Only asked of a dead VM; one that was closed meanwhile says that.
    match vm
        .0
        .running_in("keep the failed test", VmState::Booted, "booted")
    {
        Err(LabError::Dead { how, .. }) => format!("it was dead: it ended {how}"),
        Err(error) => error.to_string(),
        Ok(_) => "it was rebooted meanwhile".to_owned(),
    }
}

impl SaveResult {
    /// Puts what was saved into a part of the entry in `folder`.
    fn put(self, folder: &Utf8Path, number: usize) -> io::Result<KeptVm> {
        let part = format!("vm-{number}");
        let place = folder.join(&part);
        let state = match self.result {
            Ok(snapshot) => {
                snapshot.move_to(&place)?;
                KeptState::Saved
            }
            Err(why) => {
                let console = self.vm.console();
                console.settle();
                let from = console.mark().saturating_sub(CONSOLE_KEPT);
                let text = console.since(from).unwrap_or_default();
                fs_err::write(&place, text)?;
                KeptState::Console { why }
            }
        };
        Ok(KeptVm {
            name: self.vm.name().to_owned(),
            profile: self.vm.profile().to_owned(),
            part,
            state,
        })
    }
}
