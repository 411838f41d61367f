//! Clones of a file's lab for parallel tests: each has its VMs in their state at the baseline.
//!
//! A clone has its own VMs and sub-labs, with the names and numbers of the originals, in a scope that
//! replaces the file's. It maps a handle of the file to its own: VMs, sub-labs and processes, whose
//! output has to be read, exist from the start; workers and files are created on first use.
//!
//! ```text
//! reserve ──▶ Reservation ──▶ start ──▶ LabClone     its machines end when its scope is closed,
//!                                                    which returns the reservation
//! ```

use crate::apart::apart;
use crate::disk::VmDisk;
use crate::error::LabError;
use crate::graph::baseline::{Baseline, CheckpointState, VmCheckpoint};
use crate::graph::lab::{Lab, Member};
use crate::graph::membership::labs_below;
use crate::guest::clock::Clock;
use crate::guest::file::File;
use crate::guest::ops::GuestOps;
use crate::guest::process::Process;
use crate::guest::target::{GuestVm as _, Target};
use crate::guest::worker::Worker;
use crate::lock::lock;
use crate::network::{Bridge, Port, RestoringBridge, resume_bridges};
use crate::resource::{ResourceId, Scope};
use crate::save::SavedNic;
use crate::snapshot::restore::prepare;
use crate::vm::{Disk, Nic, Vm, forked_disks, member_entries, restored_nics};
use futures_util::future::try_join_all;
use provium_pool::{Grant, Resources};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

/// Memory and vCPUs for a clone.
#[derive(Debug)]
pub struct Reservation(Vec<Grant>);

/// A clone of a file's lab.
#[derive(Clone)]
pub struct LabClone(Arc<Inner>);

struct Inner {
    vms: BTreeMap<ResourceId, Vm>,
    labs: BTreeMap<ResourceId, Lab>,
    bridges: BTreeMap<ResourceId, Bridge>,
    ports: BTreeMap<ResourceId, Port>,
    counterparts: CloneMap,
}

/// The clone's own handles, by the numbers of the file's.
#[derive(Default)]
struct CloneMap {
    worker_ops: Mutex<BTreeMap<ResourceId, GuestOps>>,
    workers: Mutex<BTreeMap<ResourceId, Worker>>,
    processes: Mutex<BTreeMap<ResourceId, Process>>,
    files: Mutex<BTreeMap<ResourceId, File>>,
}

impl Baseline {
    /// The VMs that it has.
    pub fn vms(&self) -> impl Iterator<Item = &Vm> {
        self.vms.iter().map(|(vm, _)| vm)
    }

    fn on(&self) -> impl Iterator<Item = (&Vm, &VmCheckpoint)> {
        self.vms.iter().filter_map(|(vm, was)| match was {
            CheckpointState::On(checkpoint) => Some((vm, checkpoint)),
            CheckpointState::Off(..) => None,
        })
    }

    fn off(&self) -> impl Iterator<Item = (&Vm, &[SavedNic], &[VmDisk])> {
        self.vms.iter().filter_map(|(vm, was)| match was {
            CheckpointState::On(_) => None,
            CheckpointState::Off(_, nics, disks) => Some((vm, &nics[..], &disks[..])),
        })
    }

    fn needs(&self) -> impl Iterator<Item = (&Vm, Resources)> {
        self.on()
            .map(|(vm, checkpoint)| (vm, checkpoint.snapshot.need()))
    }

    /// Reserves what a clone needs if it is available and no request waits.
    pub fn try_reserve(&self) -> Option<Reservation> {
        let grants = self.needs().map(|(vm, need)| {
            let environment = vm.0.environment();
            environment
                .warm_pool
                .make_room(environment.pool().available().memory_bytes);
            vm.0.file.budget.try_acquire(need)
        });
        grants.collect::<Option<_>>().map(Reservation)
    }

    /// Reserves what a clone needs, one VM after the other; waits while the pool cannot grant it.
    ///
    /// # Errors
    /// When the pool or the file's claim never has that much.
    pub async fn reserve(&self) -> Result<Reservation, LabError> {
        let mut grants = Vec::new();
        for (vm, need) in self.needs() {
            grants.push(vm.0.grant("copy", need).await?);
        }
        Ok(Reservation(grants))
    }
}

impl LabClone {
    /// A clone of `lab`, which must be that of the baseline, in `scope`, which must be new and without
    /// a parent. Its VMs are resumed at one instant.
    ///
    /// # Errors
    /// As for [`Vm::restore`].
    pub async fn start(
        lab: &Lab,
        baseline: &Baseline,
        reservation: Reservation,
        of: &Scope,
        scope: &Scope,
    ) -> Result<Self, LabError> {
        let clone = Self::new(lab, baseline, of, scope)?;
        let (restoring, baseline) = (clone.clone(), baseline.clone());
        let restored = async move { restoring.restore(&baseline, reservation).await };
        let restored = apart(lab.environment().runtime(), restored).await;
        restored.map_err(|error| LabError::host(lab.subject(), "copy", error))??;
        Ok(clone)
    }

    /// A clone whose VMs are off.
    fn new(lab: &Lab, baseline: &Baseline, of: &Scope, scope: &Scope) -> Result<Self, LabError> {
        let open = || baseline.vms().filter(|vm| !vm.is_closed());
        let vms = open().map(|vm| Ok((vm.id(), vm.copy_in(scope)?)));
        let originals = labs_below(lab, of);
        let labs = originals.iter().map(|lab| (lab.id(), lab.empty_copy()));
        let file = lab.file_context();
        let bridges = baseline.bridges.iter().map(|(bridge, saved)| {
            let copy = saved.bridge(file, scope, bridge.id());
            (bridge.id(), copy)
        });
        let bridges: BTreeMap<_, _> = bridges.collect();
        let ports = baseline.bridges.iter().flat_map(|(bridge, _)| {
            let copy = &bridges[&bridge.id()];
            let ports = bridge.0.open_ports().into_iter();
            ports.map(|port| (port.id, Port::copy(&port, scope, copy)))
        });
        let inner = Inner {
            ports: ports.collect(),
            bridges,
            vms: vms.collect::<Result<_, LabError>>()?,
            labs: labs.collect(),
            counterparts: CloneMap::default(),
        };
        let members = |lab: &Lab| {
            let members = lab.members(of).into_iter();
            let members = members.filter_map(|member| match member {
                Member::Vm(vm) => inner.vms.get(&vm.id()).cloned().map(Member::Vm),
                Member::Bridge(bridge) => {
                    let copy = inner.bridges.get(&bridge.id());
                    copy.cloned().map(Member::Bridge)
                }
                Member::Lab(lab) => inner.labs.get(&lab.id()).cloned().map(Member::Lab),
            });
            members.collect::<Vec<_>>()
        };
        lab.adopt(scope, members(lab));
        for original in &originals {
            if let Some(copy) = inner.labs.get(&original.id()) {
                copy.adopt(scope, members(original));
            }
        }
        let copy = Self(Arc::new(inner));
        for process in open().flat_map(|vm| vm.0.handles.processes.held()) {
            copy.process(&process);
        }
        Ok(copy)
    }

    /// Restores all that was on at the baseline.
    async fn restore(&self, baseline: &Baseline, reservation: Reservation) -> Result<(), LabError> {
        let bridges = baseline.bridges.iter().filter_map(|(bridge, saved)| {
            let copy = self.0.bridges.get(&bridge.id())?;
            Some(RestoringBridge::new(copy.clone(), saved.clone()))
        });
        let bridges = try_join_all(bridges).await?;
        let on = baseline.on().zip(reservation.0);
        // A VM that was closed since then has none here.
        let on = on.filter_map(|((vm, checkpoint), grant)| {
            Some((self.counterpart(vm)?, checkpoint, grant))
        });
        let restored = &bridges[..];
        let ready = on.map(|(vm, checkpoint, grant)| async move {
            // No other task knows it yet.
            let lifecycle = vm.0.lifecycle().await;
            let snapshot = &checkpoint.snapshot;
            let ready = prepare(vm, lifecycle, snapshot, Some(grant), restored).await?;
            Ok::<_, LabError>((vm, checkpoint, ready))
        });
        let ready = try_join_all(ready).await?;
        let off = baseline.off().filter_map(|(vm, nics, disks)| {
            let copy = self.counterpart(vm)?;
            let nics = restored_nics(copy, nics, &bridges);
            Some(forked_disks(copy, disks).map(|disks| (copy, nics, disks)))
        });
        let off = off.collect::<Result<Vec<_>, LabError>>()?;
        let nics_on = ready.iter().map(|(_, _, ready)| ready.nics());
        let nics_off = off.iter().map(|(vm, nics, _)| (*vm, &nics[..]));
        let nics: Vec<_> = nics_on.chain(nics_off).collect();
        for bridge in &bridges {
            bridge.commit(member_entries(bridge, &nics));
        }
        for (vm, nics, disks) in off {
            vm.0.set_nics(nics);
            vm.0.disks.set(disks);
        }
        let going = ready.into_iter();
        let going = going.map(|(vm, checkpoint, ready)| checkpoint.goes_on(vm, ready));
        let going = try_join_all(going).await;
        resume_bridges(&bridges);
        going.map(drop)
    }

    /// The clone's own VM for a VM of the file; any other VM as it is.
    pub fn vm(&self, vm: &Vm) -> Vm {
        self.counterpart(vm).unwrap_or(vm).clone()
    }

    /// The clone's own sub-lab for a sub-lab of the file; any other lab as it is.
    pub fn lab(&self, lab: &Lab) -> Lab {
        self.0.labs.get(&lab.id()).unwrap_or(lab).clone()
    }

    /// The clone's own bridge for a bridge of the file; any other as it is.
    pub fn bridge(&self, bridge: &Bridge) -> Bridge {
        self.0.bridges.get(&bridge.id()).unwrap_or(bridge).clone()
    }

    /// The NIC of the clone's own VM on the clone's own bridge; any other as it is.
    pub fn nic(&self, nic: &Nic) -> Nic {
        nic.on(self.vm(nic.vm()), self.bridge(nic.bridge()))
    }

    /// The disk of the clone's own VM; any other as it is.
    pub fn disk(&self, disk: &Disk) -> Disk {
        disk.of(self.vm(disk.vm()))
    }

    /// The clone's own port for a port of the file's script; any other as it is.
    pub fn port(&self, port: &Port) -> Port {
        self.0.ports.get(&port.id()).unwrap_or(port).clone()
    }

    /// The clone's own process for one that the file's top level started; any other as it is.
    pub fn process(&self, process: &Process) -> Process {
        let Some(ops) = self.ops(process.target()) else {
            return process.clone();
        };
        let mut made = lock(&self.0.counterparts.processes);
        let rebind = || ops.adopt_process(process.rebind(ops.target().clone()));
        made.entry(process.id()).or_insert_with(rebind).clone()
    }

    /// The clone's own worker for one that the file's top level started; any other as it is.
    pub fn worker(&self, worker: &Worker) -> Worker {
        let Some(ops) = self.ops(worker.ops().target()) else {
            return worker.clone();
        };
        let mut made = lock(&self.0.counterparts.workers);
        let rebind = || Worker::rebind(ops).unwrap_or_else(|| worker.clone());
        made.entry(worker.id()).or_insert_with(rebind).clone()
    }

    /// The clone's own file for one that the file's top level opened; any other as it is.
    pub fn file(&self, file: &File) -> File {
        let Some(ops) = self.ops(file.target()) else {
            return file.clone();
        };
        let mut made = lock(&self.0.counterparts.files);
        let rebind = || ops.adopt_file(file.rebind(ops.target().clone()));
        made.entry(file.id()).or_insert_with(rebind).clone()
    }

    /// The clock of the clone's own VM for that of a VM of the file; any other as it is.
    pub fn clock(&self, clock: &Clock) -> Clock {
        let ops = self.ops(clock.target());
        ops.map_or_else(|| clock.clone(), |ops| Clock::new(ops.target().clone()))
    }

    /// The operations on the clone's own VM or worker, for those on the file's; `None` for a target that is not
    /// the file's.
    fn ops(&self, of: &Target) -> Option<GuestOps> {
        let copy = self.0.vms.get(&of.vm().id())?;
        if copy.original().key() != of.vm().key() {
            return None;
        }
        let Some(worker) = of.worker() else {
            return Some(copy.ops());
        };
        let mut made = lock(&self.0.counterparts.worker_ops);
        let made = made.entry(worker.id);
        let ops = made.or_insert_with(|| copy.ops().with_worker(Arc::new(worker.copy())));
        Some(ops.clone())
    }

    /// The clone's own VM; `None` for a VM that is not the file's, such as one of a clone.
    fn counterpart(&self, vm: &Vm) -> Option<&Vm> {
        let copy = self.0.vms.get(&vm.id())?;
        copy.original().is(vm).then_some(copy)
    }
}

impl fmt::Debug for LabClone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LabClone").field(&self.0.vms.keys()).finish()
    }
}
