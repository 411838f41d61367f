//! Restoring VMs from snapshots.
//!
//! ```text
//! prepare ──▶ PreparedRestore ── wake ──▶ PreparedRestore ── commit ──▶ ReplacedMachine ── end
//! ```
//!
//! Until `commit`, which nothing can interrupt, the VM keeps the machine that it has.

use crate::error::LabError;
use crate::guest::process::ReattachedProcess;
use crate::host_time::now_ns;
use crate::lock::lock;
use crate::network::RestoringBridge;
use crate::save::{Identity, RestoredVm, Reuse, host_name};
use crate::snapshot::folder::{replaced, restore_current};
use crate::snapshot::vm::Snapshot;
use crate::vm::{
    Lifecycle, MachineDisks, RunningMachine, StartedMachine, Vm, VmNic, emit_shutdown, install,
    load, restore_request, restored_disks, restored_nics, set_up_network,
};
use camino::Utf8Path;
use provium_events::BootKind;
use provium_image::GuestImage;
use provium_pool::{Grant, Resources};
use provium_vmm::NicSlot;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

impl Vm {
    /// Makes it what the snapshot's VM was at that moment, from whatever state it is in. It keeps its
    /// name, which the guest gets as its host name if the snapshot is another VM's; the guest's clock
    /// is as it was then.
    ///
    /// # Errors
    /// When the snapshot is gone or damaged, or is of another guest, QEMU or version.
    pub async fn restore(&self, snapshot: &Snapshot) -> Result<(), LabError> {
        self.restore_on(snapshot, RestoreReason::Restore).await
    }

    pub(crate) async fn restore_on(
        &self,
        snapshot: &Snapshot,
        occasion: RestoreReason,
    ) -> Result<(), LabError> {
        let (vm, snapshot) = (self.clone(), snapshot.clone());
        let ready = self
            .0
            .apart("restore()", async move {
                let lifecycle = vm.0.lifecycle_to_end().await;
                // First: what another host has saved need not be read to its end.
                check_processor(&vm, &snapshot)?;
                snapshot.check().await?;
                let mut ready = prepare(&vm, lifecycle, &snapshot, None, &[]).await?;
                ready.wake(occasion).await?;
                Ok(ready)
            })
            .await?;
        // A caller that is cancelled before this has the VM as it was, and after it as it was saved.
        let replaced = ready.commit();
        self.0
            .uninterrupted("restore()", async move {
                replaced.end().await;
                Ok(())
            })
            .await
    }
}

/// Refuses a snapshot that was taken on a processor whose frequency is another one.
fn check_processor(vm: &Vm, snapshot: &Snapshot) -> Result<(), LabError> {
    let here = vm.0.environment().host().map(|host| &host.processor);
    match here.and_then(|here| snapshot.0.saved.refuses(here)) {
        None => Ok(()),
        Some(why) => {
            let why = format!("the snapshot in `{}` {why}", snapshot.path());
            Err(LabError::invalid(vm.subject(), "restore()", why))
        }
    }
}

/// All of a restore but its last steps, under the VM's life-cycle lock and with a grant, if there is
/// one already. The VM is unchanged until the last step.
pub(crate) async fn prepare(
    vm: &Vm,
    lifecycle: Lifecycle,
    snapshot: &Snapshot,
    granted: Option<Grant>,
    bridges: &[RestoringBridge],
) -> Result<PreparedRestore, LabError> {
    let failed = |error| LabError::host(vm.subject(), "restore()", error);
    if vm.is_closed() {
        return Err(LabError::gone(
            vm.subject(),
            "restore()",
            "the VM is closed",
        ));
    }
    if snapshot.0.folder.is_gone() {
        let why = format!("the {} was deleted", snapshot.subject());
        return Err(LabError::gone(vm.subject(), "restore()", why));
    }
    let saved = &snapshot.0.saved;
    let image = vm.0.environment().image(&saved.manifest.profile).await;
    let image = image.map_err(|error| vm.0.host_error(error))?;
    if image.id != saved.manifest.image {
        let profile = &saved.manifest.profile;
        let why = format!(
            "the snapshot is of a guest that profile `{profile}` no longer makes; take it again"
        );
        return Err(LabError::invalid(vm.subject(), "restore()", why));
    }
    check_processor(vm, snapshot)?;
    let need = snapshot.need();
    let granted = match granted {
        Some(grant) => RestoreGrant::Whole(grant),
        None => additional_grant(vm, need).await?,
    };
    // A wait for the pool does not count.
    let begun = Instant::now();
    let disks = restored_disks(vm, &saved.manifest.disks, saved.folder())?;
    let restored = load(vm, &restore_request(saved, &image, &disks))
        .await
        .map_err(failed)?;
    let disks = MachineDisks::new(disks);
    let inserted = disks.insert(&restored.machine, |_| true).await;
    inserted.map_err(|error| LabError::host(vm.subject(), "restore()", error))?;
    if !saved.is_current() {
        // Parts of both may have been loaded.
        return Err(replaced(&snapshot.subject()));
    }
    let own = snapshot.0.origin.as_ref();
    let own = own.filter(|origin| origin.vm == vm.id());
    let processes = own.iter().flat_map(|origin| &origin.processes);
    let processes =
        processes.filter_map(|mark| mark.reattach(&vm.0.handles.processes, &restored.channel));
    Ok(PreparedRestore {
        processes: processes.collect(),
        vm: vm.clone(),
        _lifecycle: lifecycle,
        snapshot: snapshot.clone(),
        restored,
        image,
        granted,
        nics: restored_nics(vm, &saved.manifest.nics, bridges),
        plugged: Vec::new(),
        disks,
        reuse: Reuse::Possible,
        begun,
    })
}

/// What the pool has to give for a machine of `need` beside what the one that runs holds: that one
/// is ended when the other is resumed.
async fn additional_grant(vm: &Vm, need: Resources) -> Result<RestoreGrant, LabError> {
    let before = vm.0.stage.borrow().running().cloned();
    let held = before.and_then(|before| Some(lock(&before.grant).as_ref()?.amount()));
    Ok(match held {
        None => RestoreGrant::Whole(vm.0.grant("restore()", need).await?),
        Some(held) if need.fits(held) => RestoreGrant::Inherited,
        Some(held) => RestoreGrant::More(vm.0.grant("restore()", need - held).await?),
    })
}

impl Snapshot {
    /// Restores `vm` from the snapshot in a folder, as [`Vm::restore`]. If another snapshot replaces the
    /// folder meanwhile, the VM is restored from that one.
    ///
    /// # Errors
    /// As for [`Snapshot::open`] and [`Vm::restore`].
    pub async fn restore_folder(path: &Utf8Path, vm: &Vm) -> Result<(), LabError> {
        restore_current(path, async || vm.restore(&Self::open(path)?).await).await
    }
}

/// Why a VM is restored, which decides on its clock.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RestoreReason {
    /// A test restores a snapshot: the clock is as it was then.
    Restore,
    /// It is reset between tests: the clock shows this, nanoseconds since 1970.
    Reset(i64),
    /// It comes from a fixture, in place of a boot: the clock shows the host's time.
    Fixture,
}

/// What a machine runs on.
enum RestoreGrant {
    Whole(Grant),
    /// What the machine holds that runs until then.
    Inherited,
    /// That, and this.
    More(Grant),
}

/// A restored machine that the VM does not use yet. Dropping it leaves the VM as it is.
pub(crate) struct PreparedRestore {
    /// Before the machine that they are in, which ends first.
    processes: Vec<ReattachedProcess>,
    vm: Vm,
    _lifecycle: Lifecycle,
    snapshot: Snapshot,
    restored: RestoredVm,
    image: Arc<GuestImage>,
    granted: RestoreGrant,
    /// The NICs that the VM gets.
    nics: Vec<VmNic>,
    /// The sockets of those that the saved machine lacks.
    plugged: Vec<(NicSlot, UnixStream)>,
    /// The disks that it gets.
    disks: MachineDisks,
    reuse: Reuse,
    begun: Instant,
}

/// The machine that a VM ran on before.
pub(crate) struct ReplacedMachine {
    before: Option<Arc<RunningMachine>>,
    _lifecycle: Lifecycle,
}

impl PreparedRestore {
    /// Both last steps.
    pub(crate) async fn go(mut self, occasion: RestoreReason) -> Result<(), LabError> {
        self.wake(occasion).await?;
        self.commit().end().await;
        Ok(())
    }

    /// Resumes the new machine, beside the one that runs.
    pub(crate) async fn wake(&mut self, occasion: RestoreReason) -> Result<(), LabError> {
        let (reuse, realtime_ns) = match occasion {
            RestoreReason::Restore => (Reuse::Possible, None),
            RestoreReason::Reset(realtime_ns) => (Reuse::Certain, Some(realtime_ns)),
            RestoreReason::Fixture => (Reuse::Possible, Some(now_ns())),
        };
        self.reuse = reuse;
        let (vm, saved) = (&self.vm, &self.snapshot.0.saved);
        let renamed = saved.manifest.name != vm.name();
        let identity = Identity {
            realtime_ns,
            hostname: renamed.then(|| host_name(vm.name())),
            is_seeded: saved.machine.manifest.rng_seed.is_some(),
        };
        let limit = vm.0.agent_limit(&lock(&vm.0.booted_with).clone());
        let woken = self.restored.resume(identity, limit).await;
        woken.map_err(|error| LabError::host(vm.subject(), "restore()", error))?;
        let RestoredVm {
            machine, channel, ..
        } = &self.restored;
        let set_up = set_up_network(machine, channel, &mut self.nics).await;
        self.plugged = set_up.map_err(|error| LabError::host(vm.subject(), "restore()", error))?;
        Ok(())
    }

    /// The VM, and the NICs that it gets.
    pub(crate) fn nics(&self) -> (&Vm, &[VmNic]) {
        (&self.vm, &self.nics)
    }

    /// The last step: from here on the VM is what it was. The machine that it ran on until now is to be
    /// [ended](ReplacedMachine::end).
    pub(crate) fn commit(self) -> ReplacedMachine {
        let Self {
            processes,
            vm,
            _lifecycle,
            snapshot,
            restored,
            image,
            granted,
            nics,
            plugged,
            disks,
            reuse,
            begun,
        } = self;
        let request = restore_request(&snapshot.0.saved, &image, &disks.list());
        vm.0.file.environment.prewarm(request, reuse);
        let before = vm.0.stage.borrow().running().cloned();
        if let Some(before) = &before {
            before.stop_monitor();
            emit_shutdown(&vm, before);
        }
        let inherited = before
            .as_ref()
            .and_then(|before| lock(&before.grant).take());
        let need = snapshot.need();
        let grant = match (granted, inherited) {
            (RestoreGrant::Whole(grant), _) => grant,
            (RestoreGrant::Inherited, Some(inherited)) => inherited,
            (RestoreGrant::More(more), Some(inherited)) => inherited.and(more),
            // The machine before has died in this very moment, and its grant went with it: what it gave
            // back is taken again if it is there, and the pool is short of it for a while if not.
            (RestoreGrant::Inherited | RestoreGrant::More(_), None) => {
                let again = vm.0.file.budget.try_acquire(need);
                again.unwrap_or_else(|| Grant::new(need, || ()))
            }
        };
        vm.0.open_streams.guest_ended();
        let own = snapshot.0.origin.as_ref();
        let own = own.filter(|origin| origin.vm == vm.id());
        match own {
            Some(origin) => {
                lock(&vm.0.timeline).restore_to(&origin.past);
                vm.0.open_files.store(origin.open_files, Ordering::Relaxed);
            }
            None => {
                lock(&vm.0.timeline).restore_foreign();
                vm.0.open_files.store(0, Ordering::Relaxed);
            }
        }
        if snapshot.0.saved.manifest.options.is_some() {
            *lock(&vm.0.booted_with) = snapshot.options();
        }
        for process in processes {
            process.commit();
        }
        vm.0.handles.files.come_back();
        vm.0.workers.come_back();
        let RestoredVm {
            machine,
            channel,
            base,
            ..
        } = restored;
        let started = StartedMachine {
            machine,
            channel,
            kind: BootKind::Snapshot,
            profile: snapshot.0.saved.manifest.profile.clone(),
            base: Some(base),
            nics: nics.clone(),
            plugged,
            disks: disks.list(),
            served_disks: disks.served.clone(),
        };
        vm.0.set_nics(nics);
        install(&vm, started, grant, begun.elapsed());
        ReplacedMachine { before, _lifecycle }
    }
}

impl ReplacedMachine {
    /// Ends it.
    pub(crate) async fn end(self) {
        if let Some(before) = self.before {
            before
                .channel
                .shut_down("the VM was restored to a snapshot");
            before.quit().await;
        }
    }
}
