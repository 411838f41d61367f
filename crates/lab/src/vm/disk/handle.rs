//! The disk of a VM, as a test holds it.

use crate::disk::VmDisk;
use crate::error::LabError;
use crate::lock::lock;
use crate::vm::disk::declared::declare_disks;
use crate::vm::handle::Vm;
use camino::Utf8Path;
use provium_disk::{
    DiskError, DiskStats, FaultId, FaultRule, HostFailures, LogMark, PowerCut, PowerLoss, WriteLog,
};
use std::fmt;

/// A disk of a VM, by its name: after a restore it is the disk that the VM has then.
#[derive(Clone)]
pub struct Disk {
    vm: Vm,
    id: String,
}

/// The disks of a VM.
#[derive(Debug, Clone, Copy)]
pub struct Disks<'a> {
    pub(crate) vm: &'a Vm,
}

impl Vm {
    /// Its disks.
    pub fn disks(&self) -> Disks<'_> {
        Disks { vm: self }
    }
}

impl Disks<'_> {
    /// The disk of that name. Before its first boot, those that its profile and its options name are there already.
    ///
    /// # Errors
    /// When it has none of that name.
    pub async fn get(self, id: &str) -> Result<Disk, LabError> {
        let call = format!("disk({id:?})");
        self.check_open(&call)?;
        if self.vm.0.disks.find(id).is_none() && self.vm.0.stage.borrow().running().is_none() {
            let _lifecycle = self.vm.0.lifecycle().await;
            let booted_with = lock(&self.vm.0.booted_with).clone();
            declare_disks(&self.vm.0, &call, &booted_with).await?;
        }
        if self.vm.0.disks.find(id).is_some() {
            return Ok(Disk {
                vm: self.vm.clone(),
                id: id.to_owned(),
            });
        }
        let known = self.vm.0.disks.list();
        let known: Vec<&str> = known.iter().map(|disk| disk.id.as_str()).collect();
        let why = match known.is_empty() {
            true => "it has no disks".to_owned(),
            false => format!("it has no such disk; it has {}", known.join(", ")),
        };
        Err(LabError::invalid(self.vm.subject(), call, why))
    }

    /// All of them, in the order of their attachment. Before the first boot, those that the profile and the options
    /// name.
    ///
    /// # Errors
    /// When the content of one is not available.
    pub async fn all(self) -> Result<Vec<Disk>, LabError> {
        self.check_open("disks()")?;
        if self.vm.0.stage.borrow().running().is_none() {
            let _lifecycle = self.vm.0.lifecycle().await;
            let booted_with = lock(&self.vm.0.booted_with).clone();
            declare_disks(&self.vm.0, "disks()", &booted_with).await?;
        }
        Ok(self.known())
    }

    fn check_open(self, call: &str) -> Result<(), LabError> {
        if !self.vm.is_closed() {
            return Ok(());
        }
        Err(LabError::gone(self.vm.subject(), call, "the VM is closed"))
    }

    /// Those that it has already, in the order of their attachment.
    pub fn known(self) -> Vec<Disk> {
        let disks = self.vm.0.disks.list().into_iter();
        disks
            .map(|disk| Disk::new(self.vm.clone(), disk.id))
            .collect()
    }
}

impl Disk {
    pub(crate) fn new(vm: Vm, id: impl fmt::Display) -> Self {
        let id = id.to_string();
        Self { vm, id }
    }

    /// The same disk of a copy of the VM.
    pub(crate) fn of(&self, vm: Vm) -> Self {
        Self::new(vm, &self.id)
    }

    /// The VM.
    pub fn vm(&self) -> &Vm {
        &self.vm
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its name in messages: ``disk `data` of vm `db` ``.
    pub fn subject(&self) -> String {
        format!("disk `{}` of {}", self.id, self.vm.subject())
    }

    /// Whether the VM does not have it any more.
    pub fn is_detached(&self) -> bool {
        self.vm.is_closed() || self.vm.0.disks.find(&self.id).is_none()
    }

    /// The guest's name for it, such as `vda`; `None`: it is not in a machine that runs.
    pub fn node(&self) -> Option<String> {
        self.vm.0.disks.find(&self.id)?.node
    }

    /// Whether the guest's root file system is on it.
    pub fn is_root(&self) -> bool {
        let found = self.vm.0.disks.find(&self.id);
        found.is_some_and(|disk| disk.is_root())
    }

    /// Its size, bytes.
    ///
    /// # Errors
    /// This and the following: when it is detached.
    pub fn size(&self) -> Result<u64, LabError> {
        Ok(self.attached("size()")?.volume.disk().size())
    }

    /// Reads sectors of 512 bytes: what the guest would read, without faults.
    ///
    /// # Errors
    /// Beyond its end, or when the host cannot read.
    pub async fn read_sectors(&self, first: u64, count: u64) -> Result<Vec<u8>, LabError> {
        self.io("read_sectors()", move |disk| {
            disk.read_sectors(first, count)
        })
        .await
    }

    /// Writes sectors of 512 bytes, durably. What the guest has cached of them stays in its cache.
    ///
    /// # Errors
    /// Beyond its end, or when the host cannot write.
    pub async fn write_sectors(&self, first: u64, data: Vec<u8>) -> Result<(), LabError> {
        self.io("write_sectors()", move |disk| {
            disk.write_sectors(first, &data)
        })
        .await
    }

    /// Writes its whole content, as the guest would read it, to a sparse raw image of the host.
    ///
    /// # Errors
    /// When the host cannot write it.
    pub async fn save(&self, path: &Utf8Path) -> Result<(), LabError> {
        let path = path.to_owned();
        let image = self.io("save()", move |disk| disk.export(&path)).await?;
        // Not in the thread, which a call that is cut off leaves running.
        let linked = image.link();
        linked.map_err(|error| LabError::host(self.subject(), "save()", error))
    }

    /// Adds a fault that the guest's commands meet from now on.
    pub fn inject(&self, rule: FaultRule) -> Result<FaultId, LabError> {
        let disk = self.attached("fault_inject()")?;
        Ok(disk.volume.disk().inject(rule))
    }

    /// Removes a fault. Whether there was one of that number.
    pub fn remove_fault(&self, fault: FaultId) -> Result<bool, LabError> {
        let disk = self.attached("clear_faults()")?;
        Ok(disk.volume.disk().remove(fault))
    }

    /// Removes all faults.
    pub fn clear_faults(&self) -> Result<(), LabError> {
        self.attached("clear_faults()")?
            .volume
            .disk()
            .clear_faults();
        Ok(())
    }

    /// The faults, each with the number of times that it has acted.
    pub fn faults(&self) -> Result<Vec<(FaultId, FaultRule, u64)>, LabError> {
        Ok(self.attached("active_faults()")?.volume.disk().faults())
    }

    /// Counts of its guest's commands.
    pub fn stats(&self) -> Result<DiskStats, LabError> {
        Ok(self.attached("stats()")?.volume.disk().stats())
    }

    /// The commands of its guest that failed because the host could not read or write its files. `None`: none has.
    pub fn host_failures(&self) -> Option<HostFailures> {
        let found = self.vm.0.disks.find(&self.id)?;
        found.volume.disk().host_failures()
    }

    /// Why its content is not what it should be: something has written to the image that it is a copy of.
    pub fn changed_image(&self) -> Option<String> {
        let found = self.vm.0.disks.find(&self.id)?;
        let error = found.volume.disk().check_image().err()?;
        Some(LabError::host(self.subject(), "its image", error).to_string())
    }

    /// Why QEMU is not connected to it any more, while the machine runs: its guest's commands fail.
    pub fn lost_connection(&self) -> Option<String> {
        let slot = self.vm.0.disks.find(&self.id)?.slot?;
        let stage = self.vm.0.stage.borrow().clone();
        let running = stage.running()?;
        let has_ended = running.machine.ended().borrow().is_some();
        let lost = running.served_disks.lost_connection(slot);
        lost.filter(|_| !has_ended)
    }

    /// The end of the record of its writes. Without a record, one begins here.
    ///
    /// # Errors
    /// When the guest writes to the image itself, of which no earlier state is kept.
    pub fn mark(&self) -> Result<LogMark, LabError> {
        let call = "mark()";
        let mark = self.attached(call)?.volume.disk().mark_log();
        mark.map_err(|error| LabError::invalid(self.subject(), call, error.to_string()))
    }

    /// The writes and flushes since that mark, or since they are recorded.
    ///
    /// # Errors
    /// When they are not recorded, or the record has not reached the mark.
    pub fn writes(&self, since: Option<LogMark>) -> Result<WriteLog, LabError> {
        let call = "writes()";
        let disk = self.attached(call)?;
        let log = match since {
            Some(mark) => disk.volume.disk().writes_since(mark),
            None => disk.volume.disk().writes(),
        };
        log.map_err(|error| LabError::invalid(self.subject(), call, error.to_string()))
    }

    /// Whether no power cut has switched it off. A detached one is off.
    pub fn is_on(&self) -> bool {
        if self.is_detached() {
            return false;
        }
        let found = self.vm.0.disks.find(&self.id);
        found.is_some_and(|disk| disk.volume.disk().is_on())
    }

    /// Cuts its power: what is not durable is lost, as far as `cut` says, and all commands of the guest fail, until the
    /// VM is booted or reset.
    ///
    /// # Errors
    /// When the host cannot write.
    pub async fn power_cut(&self, cut: PowerCut) -> Result<PowerLoss, LabError> {
        self.io("power_cut()", move |disk| disk.power_cut(cut))
            .await
    }

    /// Runs a call that blocks in a thread of its own. It fails if the image that the disk is a copy of has changed.
    pub(crate) async fn io<T: Send + 'static>(
        &self,
        call: &str,
        act: impl FnOnce(provium_disk::Disk) -> Result<T, DiskError> + Send + 'static,
    ) -> Result<T, LabError> {
        let disk = self.attached(call)?.volume.disk().clone();
        let runtime = self.vm.0.environment().runtime();
        match runtime
            .spawn_blocking(move || disk.check_image().and_then(|()| act(disk)))
            .await
        {
            Ok(done) => done.map_err(|error| LabError::host(self.subject(), call, error)),
            Err(error) => Err(LabError::host(self.subject(), call, error)),
        }
    }

    pub(crate) fn attached(&self, call: &str) -> Result<VmDisk, LabError> {
        if self.vm.is_closed() {
            return Err(LabError::gone(self.subject(), call, "the VM is closed"));
        }
        let found = self.vm.0.disks.find(&self.id);
        found.ok_or_else(|| LabError::gone(self.subject(), call, "it is detached"))
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Disk").field(&self.subject()).finish()
    }
}
