//! Copies of a file's lab: what its VMs were at the baseline, several times side by side.
//!
//! A copy has VMs and sub-labs of its own, each with the name and the number of what it stands for, in
//! a scope that stands for the file's. Whoever has a handle of the file's asks the copy for its own:
//! VMs and sub-labs are there from the beginning, and so are processes, whose output has to be taken
//! in; workers and files are made when they are asked for.
//!
//! ```text
//! reserve ──▶ Room ──▶ copy ──▶ LabCopy      its machines end when its scope is closed,
//!                                            which gives the room back
//! ```

use crate::apart::apart;
use crate::error::LabError;
use crate::graph::lab::{Lab, Member};
use crate::graph::scope::{ResourceId, Scope};
use crate::guest::file::File;
use crate::guest::process::Process;
use crate::guest::worker::{Worker, WorkerSeat};
use crate::lock::lock;
use crate::save::snapshot::baseline::{Baseline, Moment, Was};
use crate::vm::Vm;
use futures_util::future::try_join_all;
use provium_pool::{Grant, Resources};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

/// Memory and vCPUs for a copy.
#[derive(Debug)]
pub struct Room(Vec<Grant>);

/// A copy of a file's lab.
#[derive(Clone)]
pub struct LabCopy(Arc<Inner>);

struct Inner {
    vms: BTreeMap<ResourceId, Vm>,
    labs: BTreeMap<ResourceId, Lab>,
    counterparts: Counterparts,
}

/// What stands for things in the file's VMs, by their numbers.
#[derive(Default)]
struct Counterparts {
    seats: Mutex<BTreeMap<ResourceId, Arc<WorkerSeat>>>,
    workers: Mutex<BTreeMap<ResourceId, Worker>>,
    processes: Mutex<BTreeMap<ResourceId, Process>>,
    files: Mutex<BTreeMap<ResourceId, File>>,
}

impl Baseline {
    /// The VMs that it has.
    pub fn vms(&self) -> impl Iterator<Item = &Vm> {
        self.0.iter().map(|(vm, _)| vm)
    }

    fn on(&self) -> impl Iterator<Item = (&Vm, &Moment)> {
        self.0.iter().filter_map(|(vm, was)| match was {
            Was::On(moment) => Some((vm, moment)),
            Was::Off(_) => None,
        })
    }

    fn needs(&self) -> impl Iterator<Item = (&Vm, Resources)> {
        self.on().map(|(vm, moment)| (vm, moment.snapshot.need()))
    }
}

impl Lab {
    /// Room for a copy, if it is there. Nobody who waits for some is passed over.
    pub fn try_reserve(&self, baseline: &Baseline) -> Option<Room> {
        let grants = baseline.needs().map(|(vm, need)| {
            let environment = vm.environment();
            environment
                .warm_pool
                .make_room(environment.pool().available().memory_bytes);
            vm.0.file.budget.try_acquire(need)
        });
        grants.collect::<Option<_>>().map(Room)
    }

    /// Waits for room for a copy; of several VMs, one after the other.
    ///
    /// # Errors
    /// When there will never be so much, in the pool or in the file's claim.
    pub async fn reserve(&self, baseline: &Baseline) -> Result<Room, LabError> {
        let mut grants = Vec::new();
        for (vm, need) in baseline.needs() {
            grants.push(vm.grant("copy", need).await?);
        }
        Ok(Room(grants))
    }

    /// A copy of this lab, which must be the one that the baseline is of, in the care of `scope`,
    /// which must be new and without a parent. Its VMs go on at one instant.
    ///
    /// # Errors
    /// As for [`Vm::restore`].
    pub async fn copy(
        &self,
        baseline: &Baseline,
        room: Room,
        of: &Scope,
        scope: &Scope,
    ) -> Result<LabCopy, LabError> {
        let copy = LabCopy::new(self, baseline, of, scope)?;
        let (going, baseline) = (copy.clone(), baseline.clone());
        let going = async move { going.go_on(&baseline, room).await };
        let gone_on = apart(self.environment().runtime(), going).await;
        gone_on.map_err(|error| LabError::host(self.subject(), "copy", error))??;
        Ok(copy)
    }
}

impl LabCopy {
    /// A copy whose VMs are off.
    fn new(lab: &Lab, baseline: &Baseline, of: &Scope, scope: &Scope) -> Result<Self, LabError> {
        let open = || baseline.vms().filter(|vm| !vm.is_closed());
        let vms = open().map(|vm| Ok((vm.id(), vm.copy_in(scope)?)));
        let originals = lab.labs_below(of);
        let labs = originals.iter().map(|lab| (lab.id(), lab.empty_copy()));
        let inner = Inner {
            vms: vms.collect::<Result<_, LabError>>()?,
            labs: labs.collect(),
            counterparts: Counterparts::default(),
        };
        let members = |lab: &Lab| {
            let members = lab.members(of).into_iter();
            let members = members.filter_map(|member| match member {
                Member::Vm(vm) => inner.vms.get(&vm.id()).cloned().map(Member::Vm),
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
        for process in open().flat_map(|vm| vm.0.processes.held()) {
            copy.process(&process);
        }
        Ok(copy)
    }

    /// Restores all that was on at the baseline.
    async fn go_on(&self, baseline: &Baseline, room: Room) -> Result<(), LabError> {
        let on = baseline.on().zip(room.0);
        // What was closed since then is closed here, too.
        let on =
            on.filter_map(|((vm, moment), grant)| Some((self.counterpart(vm)?, moment, grant)));
        let ready = on.map(|(vm, moment, grant)| async move {
            // Nobody else knows it yet.
            let lifecycle = vm.lifecycle().await;
            let ready = vm.prepare(lifecycle, &moment.snapshot, Some(grant)).await?;
            Ok::<_, LabError>((vm, moment, ready))
        });
        let ready = try_join_all(ready).await?.into_iter();
        let going = ready.map(|(vm, moment, ready)| moment.goes_on(vm, ready));
        try_join_all(going).await.map(drop)
    }

    /// The copy's own of a VM of the file; any other VM as it is.
    pub fn vm(&self, vm: &Vm) -> Vm {
        self.counterpart(vm).unwrap_or(vm).clone()
    }

    /// The copy's own of a sub-lab of the file; any other lab as it is.
    pub fn lab(&self, lab: &Lab) -> Lab {
        self.0.labs.get(&lab.id()).unwrap_or(lab).clone()
    }

    /// The copy's own of a process that the file's top level started; any other as it is.
    pub fn process(&self, process: &Process) -> Process {
        if self.counterpart(process.surface().vm()).is_none() {
            return process.clone();
        }
        let surface = process.surface().in_copy(self);
        let mut made = lock(&self.0.counterparts.processes);
        let made = made.entry(process.id());
        made.or_insert_with(|| process.on(surface)).clone()
    }

    /// The copy's own of a worker that the file's top level started; any other as it is.
    pub fn worker(&self, worker: &Worker) -> Worker {
        if self.counterpart(worker.vm()).is_none() {
            return worker.clone();
        }
        let mut made = lock(&self.0.counterparts.workers);
        let made = made.entry(worker.id());
        made.or_insert_with(|| worker.in_copy(self)).clone()
    }

    /// The copy's own of a file that the file's top level opened; any other as it is.
    pub fn file(&self, file: &File) -> File {
        if self.counterpart(file.surface().vm()).is_none() {
            return file.clone();
        }
        let surface = file.surface().in_copy(self);
        let mut made = lock(&self.0.counterparts.files);
        let made = made.entry(file.id());
        made.or_insert_with(|| file.on(surface)).clone()
    }

    /// That of a worker in one of the copy's VMs, for one in the VM that it stands for.
    pub(crate) fn seat(&self, seat: &WorkerSeat) -> Arc<WorkerSeat> {
        let mut made = lock(&self.0.counterparts.seats);
        let made = made.entry(seat.id);
        Arc::clone(made.or_insert_with(|| Arc::new(seat.copy())))
    }

    /// `None` for what is none of the file's: also for a VM of this copy, or of another.
    fn counterpart(&self, vm: &Vm) -> Option<&Vm> {
        let copy = self.0.vms.get(&vm.id())?;
        copy.original().is(vm).then_some(copy)
    }
}

impl fmt::Debug for LabCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LabCopy").field(&self.0.vms.keys()).finish()
    }
}
