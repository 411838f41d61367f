//! Taking snapshots, of one VM or of several at one instant.

use crate::error::LabError;
use crate::graph::scope::ResourceId;
use crate::lock::lock;
use crate::save::snapshot::folder::{Folder, Named, VM_SIGN};
use crate::save::snapshot::lifecycles::lock_all;
use crate::save::snapshot::vm::{Inner, Origin, Snapshot};
use crate::save::{Held, HoldError, SavedVm, VmFacts};
use crate::vm::{Running, Vm, VmState};
use camino::Utf8Path;
use futures_util::future::join_all;
use provium_vmm::{SaveForm, VmmError};
use std::sync::Arc;

impl Vm {
    /// A snapshot of it, in `place` or, without one, in the cache. The VM goes on.
    ///
    /// # Errors
    /// Unless it is booted and no stream reads it; when the host cannot write it.
    pub async fn snapshot(&self, place: Option<&Utf8Path>) -> Result<Snapshot, LabError> {
        let vm = self.clone();
        // Not ended with the caller, whose time may be up: a machine would be left standing. What has
        // been saved for nobody goes with its folder.
        let saved = match place.map(Utf8Path::to_owned) {
            None => {
                let taken = self.environment().to_its_end(async move {
                    let folder = vm.cache_folder()?;
                    let form = vm.0.file.form_in_cache();
                    take_one(&vm, folder, form).await
                });
                taken.await
            }
            Some(place) => {
                let taken = self.environment().to_its_end(async move {
                    let call = format!("snapshot({place:?})");
                    let failed = |error| LabError::host(vm.subject(), &call, error);
                    let named = Named::new(&place, VM_SIGN).map_err(failed)?;
                    let within = Folder::draft_of(&named);
                    let taken = take_one(&vm, within, SaveForm::Whole).await?;
                    let seal = named.seal().await.map_err(failed)?;
                    Ok((named, seal, taken))
                });
                let installed = |(named, seal, taken): (Named, _, Snapshot)| {
                    let installed = named.install(seal);
                    let seal = installed
                        .map_err(|error| LabError::host(self.subject(), "snapshot()", error))?;
                    Ok(taken.moved_to(seal.folder(), &seal))
                };
                taken.await.map(|taken| taken.and_then(installed))
            }
        };
        saved.map_err(|error| LabError::host(self.subject(), "snapshot()", error))?
    }

    /// A new folder in the cache.
    pub(crate) fn cache_folder(&self) -> Result<Folder, LabError> {
        let host = self.environment().host();
        let host = host.ok_or_else(|| self.host_error(crate::EnvironmentError::NoMachines))?;
        let draft = host.snapshots.staging_folder();
        let draft = draft.map_err(|error| LabError::host(self.subject(), "snapshot()", error))?;
        let draft = Arc::new(draft);
        Ok(Folder::cached(&draft, draft.path()))
    }
}

async fn take_one(vm: &Vm, folder: Folder, form: SaveForm) -> Result<Snapshot, LabError> {
    let mut taken = take_all(vec![(vm.clone(), folder)], form, Afterwards::GoOn).await?;
    taken
        .pop()
        .ok_or_else(|| LabError::invalid(vm.subject(), "snapshot()", "nothing was saved"))
}

/// What becomes of VMs that have been saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Afterwards {
    GoOn,
    /// They stand still, and are to be switched off.
    Stay,
}

/// Saves the VMs, all at one instant, each into its folder.
pub(crate) async fn take_all(
    vms: Vec<(Vm, Folder)>,
    form: SaveForm,
    afterwards: Afterwards,
) -> Result<Vec<Snapshot>, LabError> {
    let (vms, folders): (Vec<Vm>, Vec<Folder>) = vms.into_iter().unzip();
    let _lifecycles = lock_all(&vms).await;
    let mut running = Vec::new();
    for vm in &vms {
        vm.check_quiescent()?;
        running.push(vm.running_in("snapshot()", VmState::Booted, "booted")?);
    }
    let holding = running.iter().zip(&vms);
    let holding = holding.map(|(running, vm)| hold(vm, running));
    let (standing, failures): (Vec<_>, Vec<_>) =
        join_all(holding).await.into_iter().partition(Result::is_ok);
    let standing: Vec<_> = standing.into_iter().flatten().collect();
    if let Some(Err(failure)) = failures.into_iter().next() {
        // None is saved unless all can be, and those that stand already must not stay so.
        let _ = let_go(standing).await;
        return Err(failure);
    }
    let saving = vms.iter().zip(folders).zip(&running).zip(&standing);
    let saved = join_all(saving.map(|(((vm, folder), running), (held, image))| {
        save(vm, folder, running, held, image, form.clone())
    }));
    let saved: Result<Vec<Snapshot>, LabError> = saved.await.into_iter().collect();
    if afterwards == Afterwards::Stay && saved.is_ok() {
        return saved;
    }
    let_go(standing).await?;
    saved
}

/// Lets all go on, whatever becomes of one of them; the first failure.
async fn let_go(standing: Vec<(Held<'_>, String)>) -> Result<(), LabError> {
    let going = standing.into_iter().map(|(held, _)| async move {
        let name = held.name().to_owned();
        let gone_on = held.let_go().await;
        gone_on.map_err(|error| LabError::host(format!("vm `{name}`"), "snapshot()", error))
    });
    join_all(going).await.into_iter().collect()
}

async fn hold<'a>(vm: &Vm, running: &'a Running) -> Result<(Held<'a>, String), LabError> {
    let image = vm.environment().image(&running.profile).await;
    let image = image.map_err(|error| vm.host_error(error))?;
    let limit = vm.environment().patient(Held::LIMIT);
    match Held::hold(&running.machine, &running.channel, limit).await {
        Ok(held) => Ok((held, image.id.clone())),
        Err(HoldError::Restless(after)) => Err(LabError::TimedOut {
            subject: vm.subject(),
            call: "snapshot()".to_owned(),
            after,
            note: "; its agent does not come to rest".to_owned(),
        }),
        Err(asleep @ HoldError::Asleep) => {
            let why = asleep.to_string();
            Err(LabError::invalid(vm.subject(), "snapshot()", why))
        }
        Err(error) => {
            let told = LabError::host(vm.subject(), "snapshot()", error);
            Err(vm.explain("snapshot()", told).await)
        }
    }
}

async fn save(
    vm: &Vm,
    folder: Folder,
    running: &Running,
    held: &Held<'_>,
    image: &str,
    form: SaveForm,
) -> Result<Snapshot, LabError> {
    let origin = Origin {
        vm: vm.id(),
        past: vm.past(),
        processes: vm.0.processes.marks(),
        open_files: vm.open_file_count(),
    };
    let options = lock(&vm.0.booted_with).clone();
    let facts = |cut| VmFacts::new(vm.name(), &running.profile, image, Some(options), cut);
    // A base that may vanish is none.
    let base = running.base.as_ref().filter(|base| base.is_kept());
    let form = if base.is_some() {
        form
    } else {
        SaveForm::Whole
    };
    if let Err(error) = held.save(folder.path(), form, facts).await {
        let is_of_machine = matches!(error, HoldError::Machine(VmmError::Control { .. }));
        let told = LabError::host(vm.subject(), "snapshot()", error);
        return Err(match is_of_machine {
            // A QEMU that ends closes its control socket first: its end tells more.
            true => vm.explain("snapshot()", told).await,
            false => told,
        });
    }
    let saved = SavedVm::on_base(folder.as_base(), base);
    let saved = saved.map_err(|error| LabError::host(vm.subject(), "snapshot()", error))?;
    Ok(Snapshot(Arc::new(Inner {
        id: ResourceId::next(),
        folder,
        saved,
        origin: Some(origin),
    })))
}

impl Vm {
    /// An error while streams read it: what they have not read yet would be lost.
    fn check_quiescent(&self) -> Result<(), LabError> {
        let open = self.0.open_streams.list();
        if open.is_empty() {
            return Ok(());
        }
        let why = format!(
            "{} stream(s) are open; close them first:\n  {}",
            open.len(),
            open.join("\n  ")
        );
        Err(LabError::invalid(self.subject(), "snapshot()", why))
    }
}
