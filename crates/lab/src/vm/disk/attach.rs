//! Attaching disks to a VM, and detaching them.

use crate::disk::{DiskId, DiskOptions, DiskOrigin, VmDisk};
use crate::error::{LabError, chain};
use crate::guest::wait::GuestWait;
use crate::lock::lock;
use crate::vm::disk::declared::{MOST_DISKS, declare_disks};
use crate::vm::disk::guest_view::{GuestView, settle_disks};
use crate::vm::disk::handle::{Disk, Disks};
use crate::vm::disk::setup::DiskSetupError;
use crate::vm::handle::Vm;
use crate::vm::running::RunningMachine;
use crate::vm::state::{Lifecycle, Stage};
use provium_disk::{DiskError, SECTOR};
use provium_vmm::{DiskSlot, VmmError};
use std::sync::Arc;

const ATTACH: &str = "attach_disk()";

impl Disks<'_> {
    /// Attaches a disk: at once if it runs, and with its next boot otherwise. A guest that runs has its device, and a
    /// mount that was asked for, when this returns. `content` is written to it before the guest sees it, from its first
    /// sector on; a last sector that it does not fill is filled with zeroes.
    ///
    /// # Errors
    /// When a disk has that name already; while it is paused; when the host cannot keep it; when the guest has no
    /// driver for it.
    pub async fn attach(
        self,
        options: DiskOptions,
        content: Option<Vec<u8>>,
    ) -> Result<Disk, LabError> {
        let core = &self.vm.0;
        let vm = self.vm.clone();
        // The image of a folder may take minutes to make, with the clocks of the caller stopped.
        let has_content = content.is_some();
        let opened = core.apart(ATTACH, async move { open(&vm, options, has_content).await });
        let opened = opened.await?;
        let vm = self.vm.clone();
        core.uninterrupted(ATTACH, async move { attach(&vm, opened, content).await })
            .await
    }
}

impl Disk {
    /// Detaches it. A guest that runs has released it when this returns.
    ///
    /// # Errors
    /// When the guest does not release it; while it is paused.
    pub async fn detach(&self) -> Result<(), LabError> {
        let disk = self.clone();
        let vm = self.vm();
        vm.0.uninterrupted("detach()", async move { detach(&disk).await })
            .await
    }
}

/// A disk that its VM does not have yet. Nothing has been written to its image.
struct OpenedDisk {
    /// The VM stays as it is.
    _lifecycle: Lifecycle,
    stage: Stage,
    disk: VmDisk,
}

async fn open(vm: &Vm, options: DiskOptions, has_content: bool) -> Result<OpenedDisk, LabError> {
    let _lifecycle = vm.0.lifecycle().await;
    let invalid = |why: String| LabError::invalid(vm.subject(), ATTACH, why);
    if vm.is_closed() {
        return Err(LabError::gone(vm.subject(), ATTACH, "the VM is closed"));
    }
    let stage = vm.0.stage.borrow().clone();
    if let Stage::Paused(_) = stage {
        return Err(vm
            .0
            .wrong_state(ATTACH, &stage, "booted, created, shutdown or dead"));
    }
    if stage.running().is_none() {
        let declared = lock(&vm.0.booted_with).clone();
        declare_disks(&vm.0, ATTACH, &declared).await?;
    }
    let id = choose_id(&vm.0.disks.list(), options.id.as_deref()).map_err(invalid)?;
    // The guest's device is read-only all the same.
    let writable = DiskOptions {
        read_only: options.read_only && !has_content,
        ..options.clone()
    };
    let volume = vm.0.disk_content().open(&id, &writable).await;
    let volume = volume.map_err(|error| vm.0.disk_content().error(ATTACH, &id, error))?;
    Ok(OpenedDisk {
        _lifecycle,
        stage,
        disk: VmDisk::new(id, options, DiskOrigin::Attached, volume),
    })
}

async fn attach(vm: &Vm, opened: OpenedDisk, content: Option<Vec<u8>>) -> Result<Disk, LabError> {
    let OpenedDisk {
        _lifecycle,
        stage,
        disk,
    } = opened;
    let id = disk.id.clone();
    if let Some(content) = content {
        write_start(vm, &disk, content).await?;
    }
    match stage.running() {
        Some(running) => plug(vm, running, disk).await?,
        None => vm.0.disks.push(disk),
    }
    Ok(Disk::new(vm.clone(), id))
}

/// The id of a further disk beside `disks`: the wanted one, or the first that is free. The error says why there
/// cannot be one.
fn choose_id(disks: &[VmDisk], wanted: Option<&str>) -> Result<DiskId, String> {
    let count = disks.iter().filter(|disk| !disk.is_root()).count();
    if count >= MOST_DISKS {
        return Err(format!(
            "it has {count} disks, and a machine has slots for {MOST_DISKS}; detach one first"
        ));
    }
    let is_free = |id: &DiskId| disks.iter().all(|disk| disk.id != *id);
    match wanted {
        Some(wanted) => {
            let id = DiskId::new(wanted)?;
            if is_free(&id) {
                Ok(id)
            } else {
                Err(format!("it already has a disk `{id}`; choose another id"))
            }
        }
        None => {
            let mut places = (0..).map(DiskId::by_place);
            places
                .find(is_free)
                .ok_or_else(|| "it has too many disks".to_owned())
        }
    }
}

/// Writes the start of a disk that no guest has yet.
async fn write_start(vm: &Vm, disk: &VmDisk, content: Vec<u8>) -> Result<(), LabError> {
    let subject = format!("disk `{}` of {}", disk.id, vm.subject());
    let disk = disk.volume.disk().clone();
    let writing = tokio::task::spawn_blocking(move || write_content(&disk, content));
    let written = writing.await.map_err(std::io::Error::other);
    written
        .and_then(|written| written.map_err(std::io::Error::other))
        .map_err(|error| LabError::host(subject, ATTACH, error))
}

/// Writes data from the first sector on.
fn write_content(disk: &provium_disk::Disk, mut content: Vec<u8>) -> Result<(), DiskError> {
    content.resize(content.len().next_multiple_of(SECTOR as usize), 0);
    disk.write_sectors(0, &content)
}

/// Plugs it into the machine of a VM that runs.
async fn plug(vm: &Vm, running: &Arc<RunningMachine>, mut disk: VmDisk) -> Result<(), LabError> {
    let failed = |error: DiskSetupError| LabError::host(vm.subject(), ATTACH, error);
    let mut disks = vm.0.disks.list();
    let used = running.machine.disks();
    let mut slots = (0..DiskSlot::COUNT).filter_map(DiskSlot::new);
    let slot = slots.find(|slot| used.iter().all(|device| device.slot != *slot));
    let Some(slot) = slot else {
        let why = format!(
            "it has {} disks, and no free slot for another one; detach one first",
            used.len()
        );
        return Err(LabError::invalid(vm.subject(), ATTACH, why));
    };
    disk.slot = Some(slot);
    let Some(device) = disk.device() else {
        return Ok(());
    };
    let id = disk.id.to_string();
    let served = disk.volume.serve(&id, running.machine.guest_end());
    let offered = served.map_err(|source| {
        let id = id.clone();
        failed(DiskSetupError::Serve { id, source })
    })?;
    let plugged = running.machine.plug_disk(device, offered.socket()).await;
    if let Err(source) = plugged {
        let error = failed(DiskSetupError::Machine { id, source });
        return Err(vm.0.explain(ATTACH, error).await);
    }
    running.served_disks.add(slot, offered.connected());
    disks.push(disk.clone());
    let limit = vm.0.agent_limit(&vm.0.options);
    let settled = settle_disks(&running.channel, &mut disks, |_| GuestView::Current);
    let why = match GuestWait::new(&running.machine, limit).until(settled).await {
        Ok(Ok(())) => {
            vm.0.disks.set(disks);
            return Ok(());
        }
        Ok(Err(error)) => chain(&error),
        Err(why) => why.to_string(),
    };
    let why = format!("its guest cannot use the disk: {why}");
    let error = LabError::host(vm.subject(), ATTACH, std::io::Error::other(why));
    // Without a driver, the guest releases it at once. A disk that it does not release is removed with the machine.
    if running.machine.unplug_disk(slot).await.is_ok() {
        running.served_disks.remove(slot);
        // The agent may have made its link before it failed. If it cannot remove that, the first error counts.
        let mut remaining = vm.0.disks.list();
        let settled = settle_disks(&running.channel, &mut remaining, |_| GuestView::Current);
        let _ = GuestWait::new(&running.machine, limit).until(settled).await;
        // The machine runs, so its end is not the reason.
        return Err(error);
    }
    Err(vm.0.explain(ATTACH, error).await)
}

async fn detach(disk: &Disk) -> Result<(), LabError> {
    let call = "detach()";
    let vm = disk.vm();
    let _lifecycle = vm.0.lifecycle().await;
    let Some(found) = vm.0.disks.find(disk.id()) else {
        return Ok(());
    };
    if found.is_root() {
        let why = "the guest's root file system is on it";
        return Err(LabError::invalid(disk.subject(), call, why));
    }
    let stage = vm.0.stage.borrow().clone();
    if let Stage::Paused(_) = stage {
        return Err(vm
            .0
            .wrong_state(call, &stage, "booted, created, shutdown or dead"));
    }
    if let (Some(running), Some(slot)) = (stage.running(), found.slot) {
        let drain = running.served_disks.drain();
        match running.machine.unplug_disk(slot).await {
            Ok(()) => {}
            Err(error @ VmmError::NotReleased { .. }) => {
                return Err(LabError::host(disk.subject(), call, error));
            }
            Err(error) => {
                let error = LabError::host(disk.subject(), call, error);
                return Err(vm.0.explain(call, error).await);
            }
        }
        drop(drain);
        running.served_disks.remove(slot);
        vm.0.disks.remove(disk.id());
        let mut disks = vm.0.disks.list();
        // Links to it are removed.
        let settled = settle_disks(&running.channel, &mut disks, |_| GuestView::Current).await;
        settled.map_err(|error| LabError::host(disk.subject(), call, error))?;
        return Ok(());
    }
    vm.0.disks.remove(disk.id());
    Ok(())
}
