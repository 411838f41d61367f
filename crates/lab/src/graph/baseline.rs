//! The baseline of a file: the state that its VMs are reset to before each test, or that each test gets a
//! clone of (`clone`).
//!
//! It is taken once, when the file's top level has run. A VM that was booted then is booted again
//! after, with everything it had, whatever a test did to it; one that was off is switched off
//! again. VMs that were made later, or closed, are left alone.

use crate::apart::apart;
use crate::disk::VmDisk;
use crate::error::LabError;
use crate::graph::lab::Lab;
use crate::graph::membership::{bridges_below, vms_below};
use crate::host_time::now_ns;
use crate::network::{Bridge, RestoringBridge, SavedBridge, resume_bridges};
use crate::resource::Scope;
use crate::save::SavedNic;
use crate::snapshot::lifecycles::lock_all_to_end;
use crate::snapshot::restore::{PreparedRestore, RestoreReason, prepare};
use crate::snapshot::take::{AfterSave, cache_folder, take_all};
use crate::snapshot::vm::Snapshot;
use crate::vm::{
    Vm, VmState, forked_disks, member_entries, restored_nics, saved_nics, switch_off_as,
};
use futures_util::future::{join_all, try_join_all};
use provium_vmm::SaveForm;

/// The state of all VMs of a lab at one instant.
#[derive(Debug, Clone)]
pub struct Baseline {
    pub(crate) vms: Vec<(Vm, CheckpointState)>,
    /// Bridges, and what they were.
    pub(crate) bridges: Vec<(Bridge, SavedBridge)>,
}

/// The state of a VM.
#[derive(Debug, Clone)]
pub(crate) enum CheckpointState {
    /// Created, or shut down; with its NICs, and copies of its disks.
    Off(VmState, Vec<SavedNic>, Vec<VmDisk>),
    On(VmCheckpoint),
}

/// The state of a VM that was on.
#[derive(Debug, Clone)]
pub(crate) struct VmCheckpoint {
    pub(crate) snapshot: Snapshot,
    /// How far its clock was ahead of the host's, nanoseconds. It keeps that
    /// distance, so the reset does not set it back.
    ahead_ns: i64,
    is_paused: bool,
}

impl Baseline {
    /// Takes the state of all VMs of `lab` and of its sub-labs at one instant.
    ///
    /// # Errors
    /// As for a snapshot; also when a VM is dead.
    pub async fn take(lab: &Lab, scope: &Scope) -> Result<Self, LabError> {
        Self::take_then(lab, scope, AfterSave::Thaw).await
    }

    /// Like [`Baseline::take`], and switches the VMs off at that instant.
    ///
    /// # Errors
    /// As for [`Baseline::take`].
    pub async fn take_and_end(lab: &Lab, scope: &Scope) -> Result<Self, LabError> {
        Self::take_then(lab, scope, AfterSave::StayPaused).await
    }

    async fn take_then(lab: &Lab, scope: &Scope, after: AfterSave) -> Result<Self, LabError> {
        let vms = vms_below(lab, scope).into_iter().map(|(_, vm)| vm);
        let bridges = bridges_below(lab, scope).into_iter();
        let bridges = bridges.map(|(_, bridge)| bridge).collect();
        let take = Self::take_all(vms.collect(), bridges, after);
        let taken = apart(lab.environment().runtime(), take).await;
        taken.map_err(|error| LabError::host(lab.subject(), "baseline", error))?
    }

    /// Resets all VMs of `lab`, which it was taken of, at one instant.
    ///
    /// # Errors
    /// As for [`Vm::restore`]; no VM is changed unless all can be.
    pub async fn restore(&self, lab: &Lab) -> Result<(), LabError> {
        let restore = self.clone().restore_all();
        let restored = lab.environment().runtime().spawn(restore).await;
        restored.map_err(|error| LabError::host(lab.subject(), "reset", error))?
    }

    async fn take_all(
        vms: Vec<Vm>,
        bridges: Vec<Bridge>,
        after: AfterSave,
    ) -> Result<Self, LabError> {
        let states: Vec<(Vm, VmState)> =
            vms.into_iter().map(|vm| (vm.clone(), vm.state())).collect();
        // The agent of a paused guest cannot be quiesced: it is resumed for a moment.
        let paused = || states.iter().filter(|(_, state)| *state == VmState::Paused);
        try_join_all(paused().map(|(vm, _)| async move { vm.power().resume().await })).await?;
        let on = || states.iter().filter(|(_, state)| is_on(*state));
        let taken = Self::take_on(on(), bridges, after).await;
        if after == AfterSave::StayPaused && taken.is_ok() {
            try_join_all(on().map(|(vm, _)| async move { vm.power().shutdown().await })).await?;
        } else {
            try_join_all(paused().map(|(vm, _)| async move { vm.power().pause().await })).await?;
        }
        let off = states.iter().filter(|(_, state)| !is_on(*state));
        let off = off.map(|(vm, state)| {
            let disks = forked_disks(vm, &vm.0.disks.list())?;
            let checkpoint = CheckpointState::Off(*state, saved_nics(vm), disks);
            Ok((vm.clone(), checkpoint))
        });
        let off = off.collect::<Result<Vec<_>, LabError>>();
        let taken = taken?;
        Ok(Self {
            vms: off?.into_iter().chain(taken.vms).collect(),
            bridges: taken.bridges,
        })
    }

    async fn take_on(
        vms: impl Iterator<Item = &(Vm, VmState)> + Clone,
        bridges: Vec<Bridge>,
        after: AfterSave,
    ) -> Result<Self, LabError> {
        let clocks = vms.clone().map(|(vm, _)| async move {
            Ok::<_, LabError>(vm.clock().get().await?.saturating_sub(now_ns()))
        });
        let clocks = try_join_all(clocks).await?;
        let folders = vms
            .clone()
            .map(|(vm, _)| Ok((vm.clone(), cache_folder(vm)?)));
        let folders = folders.collect::<Result<Vec<_>, LabError>>()?;
        let taken = take_all(folders, bridges.clone(), SaveForm::OnBase, after).await?;
        let all = vms.zip(taken.vms.into_iter().zip(clocks));
        let all = all.map(|((vm, state), (snapshot, ahead_ns))| {
            let is_paused = *state == VmState::Paused;
            let checkpoint = VmCheckpoint {
                snapshot,
                ahead_ns,
                is_paused,
            };
            (vm.clone(), CheckpointState::On(checkpoint))
        });
        Ok(Self {
            vms: all.collect(),
            bridges: bridges.into_iter().zip(taken.bridges).collect(),
        })
    }

    async fn restore_all(self) -> Result<(), LabError> {
        let open = || self.vms.iter().filter(|(vm, _)| !vm.is_closed());
        let lifecycles = lock_all_to_end(open().map(|(vm, _)| vm)).await;
        let bridges = self.bridges.iter();
        let bridges = bridges.filter(|(bridge, _)| !bridge.is_closed());
        let bridges =
            bridges.map(|(bridge, saved)| RestoringBridge::new(bridge.clone(), saved.clone()));
        let bridges = try_join_all(bridges).await?;
        let (mut off, mut on, mut ready) = (Vec::new(), Vec::new(), Vec::new());
        for ((vm, was), lifecycle) in open().zip(lifecycles) {
            match was {
                CheckpointState::Off(state, nics, disks) => {
                    let nics = restored_nics(vm, nics, &bridges);
                    let disks = forked_disks(vm, disks)?;
                    off.push((vm, *state, nics, disks, lifecycle));
                }
                CheckpointState::On(checkpoint) => {
                    on.push((vm, checkpoint));
                    ready.push(prepare(vm, lifecycle, &checkpoint.snapshot, None, &bridges));
                }
            }
        }
        let ready = try_join_all(ready).await?;
        let switching = off.iter();
        let switching =
            switching.map(|(vm, state, .., lifecycle)| switch_off_as(vm, *state, lifecycle));
        join_all(switching).await;
        let nics_on = ready.iter().map(PreparedRestore::nics);
        let nics_off = off.iter().map(|(vm, _, nics, ..)| (*vm, &nics[..]));
        let nics: Vec<_> = nics_on.chain(nics_off).collect();
        for bridge in &bridges {
            bridge.commit(member_entries(bridge, &nics));
        }
        for (vm, _, nics, disks, _) in &off {
            vm.0.set_nics(nics.clone());
            vm.0.disks.set(disks.clone());
        }
        let going = ready.into_iter().zip(&on);
        let going = going.map(|(ready, (vm, checkpoint))| checkpoint.goes_on(vm, ready));
        let going = try_join_all(going).await;
        resume_bridges(&bridges);
        going.map(drop)
    }
}

impl VmCheckpoint {
    /// The last step of a restore to this checkpoint.
    pub(crate) async fn goes_on(&self, vm: &Vm, ready: PreparedRestore) -> Result<(), LabError> {
        let clock = now_ns().saturating_add(self.ahead_ns);
        ready.go(RestoreReason::Reset(clock)).await?;
        if self.is_paused {
            vm.power().pause().await?;
        }
        Ok(())
    }
}

fn is_on(state: VmState) -> bool {
    !matches!(state, VmState::Created | VmState::Shutdown)
}
