//! Explores the crash states of a disk on copies of its VM.

use crate::apart::apart;
use crate::crash::image::CrashImage;
use crate::disk::VmDisk;
use crate::error::LabError;
use crate::lock::lock;
use crate::resource::Scope;
use crate::snapshot::Snapshot;
use crate::snapshot::take::{cache_folder, check_quiescent, take_one};
use crate::vm::{Disk, GuestView, Vm, VmState, insert_disk, settle_disks};
use provium_disk::{CrashOptions, CrashStates};
use std::fmt;
use std::sync::{Arc, Mutex};

const CALL: &str = "crash_states()";

/// The crash states of a disk, and the VM at the time of the call.
#[derive(Clone)]
pub struct CrashExplorer(Arc<Inner>);

struct Inner {
    disk: Disk,
    snapshot: Snapshot,
    states: Mutex<RemainingStates>,
}

/// The states that are left.
struct RemainingStates {
    states: CrashStates,
    given: usize,
    /// How many are wanted. One more is enumerated if there are more.
    most: usize,
}

/// How many crash states there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashCount {
    /// Those that were asked for.
    pub states: usize,
    /// Whether there are more than were asked for.
    pub is_cut: bool,
}

/// A copy of the VM, whose disk has one state after the other.
pub struct CrashVm {
    explorer: CrashExplorer,
    vm: Vm,
    /// It is as in the snapshot, except for its disk.
    is_fresh: bool,
    /// Whether it is restored before each state.
    restores: bool,
}

impl CrashExplorer {
    /// Takes a snapshot of the disk's VM, which continues, and enumerates the states.
    ///
    /// # Errors
    /// When the VM is not booted or a stream reads it; when the guest's root is on the disk.
    pub async fn start(disk: &Disk, options: CrashOptions) -> Result<Self, LabError> {
        let found = disk.attached(CALL)?;
        if found.is_root() {
            let why =
                "the guest's root file system is on it; put the data under test on another disk";
            return Err(LabError::invalid(disk.subject(), CALL, why));
        }
        let vm = disk.vm().clone();
        vm.0.running_in(CALL, VmState::Booted, "booted")?;
        check_quiescent(&vm, CALL)?;
        let most = options.most;
        let options = CrashOptions {
            most: most.saturating_add(1),
            ..options
        };
        let states = disk
            .io(CALL, move |disk| disk.crash_states(options))
            .await?;
        let runtime = vm.0.environment().runtime().clone();
        let taking = async move {
            let folder = cache_folder(&vm)?;
            take_one(&vm, folder, vm.0.file.form_in_cache()).await
        };
        let snapshot = apart(&runtime, taking).await;
        let snapshot = snapshot.map_err(|error| LabError::host(disk.subject(), CALL, error))??;
        Ok(Self(Arc::new(Inner {
            disk: disk.clone(),
            snapshot,
            states: Mutex::new(RemainingStates {
                states,
                given: 0,
                most,
            }),
        })))
    }

    /// A copy of the VM, in `scope`, once the pool has room for it; without `waits` `None` if it has none now. With
    /// `restores` it is restored before each state.
    ///
    /// # Errors
    /// As for [`Vm::restore`].
    pub async fn copy(
        &self,
        scope: &Scope,
        waits: bool,
        restores: bool,
    ) -> Result<Option<CrashVm>, LabError> {
        let original = self.0.disk.vm();
        let need = self.0.snapshot.need();
        let environment = original.0.environment();
        if !waits {
            let room = environment.pool().available().memory_bytes;
            environment.warm_pool.make_room(room);
            match original.0.file.budget.try_acquire(need) {
                // The restore takes it again.
                Some(grant) => drop(grant),
                None => return Ok(None),
            }
        }
        let vm = Vm::create(
            Arc::clone(&original.0.file),
            scope,
            original.name(),
            Arc::clone(&original.0.profile),
            self.0.snapshot.options(),
        );
        let restored = vm.restore(&self.0.snapshot).await;
        restored.map_err(|error| match error {
            // The copy has the name of the VM, which runs.
            LabError::Budget { cause, .. } => LabError::Budget {
                subject: self.0.disk.subject(),
                call: CALL.to_owned(),
                cause,
            },
            other => other,
        })?;
        Ok(Some(CrashVm {
            explorer: self.clone(),
            vm,
            is_fresh: true,
            restores,
        }))
    }

    /// How many states there are. No copy gets a further one after that.
    pub fn count(&self) -> CrashCount {
        let mut states = lock(&self.0.states);
        let left = states.states.by_ref().take_while(Result::is_ok).count();
        let found = states.given + left;
        states.given = states.most;
        CrashCount {
            states: found.min(states.most),
            is_cut: found > states.most,
        }
    }

    fn next_image(&self) -> Result<Option<CrashImage>, LabError> {
        let mut states = lock(&self.0.states);
        if states.given == states.most {
            return Ok(None);
        }
        let Some(state) = states.states.next() else {
            return Ok(None);
        };
        let failed = |error| LabError::host(self.0.disk.subject(), CALL, error);
        let state = state.map_err(failed)?;
        states.given += 1;
        Ok(Some(CrashImage::new(states.given, state)))
    }
}

impl CrashVm {
    /// The copy.
    pub fn vm(&self) -> &Vm {
        &self.vm
    }

    /// The next state that no copy has had, which its guest finds on its disk; `None`: there are no more.
    ///
    /// # Errors
    /// When the guest used the disk when the snapshot was taken, such as by a mount.
    pub async fn next(&mut self) -> Result<Option<CrashImage>, LabError> {
        let Some(image) = self.explorer.next_image()? else {
            return Ok(None);
        };
        let is_reused = !std::mem::take(&mut self.is_fresh);
        if self.vm.is_closed() {
            let why = "the function has closed the copy of the VM that it was given; the copy is used for further \
                       states, and closed when there are no more";
            return Err(LabError::invalid(self.explorer.0.disk.subject(), CALL, why));
        }
        if self.vm.state() == VmState::Booted && !(is_reused && self.restores) {
            match self.put(&image).await {
                Ok(()) => return Ok(Some(image)),
                // What the test has left there keeps the guest from releasing it.
                Err(_) if is_reused => {}
                Err(error) => return Err(self.in_use(error)),
            }
        }
        self.vm.restore(&self.explorer.0.snapshot).await?;
        match self.put(&image).await {
            Ok(()) => Ok(Some(image)),
            Err(error) => Err(self.in_use(error)),
        }
    }

    /// Ends the copy.
    ///
    /// # Errors
    /// As for [`Vm::close`].
    pub async fn close(self) -> Result<(), LabError> {
        self.vm.close().await
    }

    /// Puts the state on the disk, and makes the guest see it.
    async fn put(&self, image: &CrashImage) -> Result<(), LabError> {
        let vm = self.vm.clone();
        let (id, content) = (self.explorer.0.disk.id().to_owned(), image.disk().clone());
        self.vm
            .0
            .uninterrupted(CALL, async move { replace(&vm, &id, content).await })
            .await
    }

    fn in_use(&self, error: LabError) -> LabError {
        let why =
            format!("its guest does not release the disk; unmount it before the call ({error})");
        LabError::invalid(self.explorer.0.disk.subject(), CALL, why)
    }
}

/// Puts other content on a disk of a VM that runs.
async fn replace(vm: &Vm, id: &str, content: provium_disk::Disk) -> Result<(), LabError> {
    let _lifecycle = vm.0.lifecycle().await;
    let running = vm.0.running_in(CALL, VmState::Booted, "booted")?;
    let mut disks = vm.0.disks.list();
    let found = disks.iter_mut().find(|disk| disk.id.as_str() == id);
    let Some(disk) = found.filter(|disk| disk.slot.is_some()) else {
        return Err(LabError::gone(vm.subject(), CALL, "the disk is detached"));
    };
    let volume = vm.0.disk_content().adopt(&disk.id, content);
    disk.volume = volume.map_err(|error| LabError::host(vm.subject(), CALL, error))?;
    let inserted = insert_disk(&running.machine, &running.served_disks, disk).await;
    inserted.map_err(|error| LabError::host(vm.subject(), CALL, error))?;
    vm.0.disks.set(disks.clone());
    for disk in disks.iter_mut().filter(|disk| disk.id.as_str() == id) {
        // Until the copy boots: the function may have to repair it first.
        disk.options.mount = None;
    }
    let found = |disk: &VmDisk| match disk.id.as_str() == id {
        true => GuestView::Stale,
        false => GuestView::Current,
    };
    let settled = settle_disks(&running.channel, &mut disks, found).await;
    settled.map_err(|error| LabError::host(vm.subject(), CALL, error))
}

impl fmt::Debug for CrashExplorer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CrashExplorer").field(&self.0.disk).finish()
    }
}

impl fmt::Debug for CrashVm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CrashVm").field(&self.vm).finish()
    }
}
