//! The disks of a machine, as they are served to its QEMU.

use crate::lock::lock;
use provium_disk::{DiskService, Pace};
use provium_vmm::DiskSlot;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

/// The services of the disks that a machine has. They end when it is dropped.
#[derive(Clone, Default)]
pub(crate) struct ServedDisks(Arc<Mutex<BTreeMap<DiskSlot, DiskService>>>);

/// While it exists, commands of the guest do not wait for the delays of faults: before QEMU stops a machine, it waits
/// for the commands in flight.
///
/// QEMU then flushes each disk, which the guest has not requested: such flushes make nothing durable.
pub(crate) struct DrainGuard(ServedDisks);

impl ServedDisks {
    /// Adds the service of the disk in that slot, in place of an earlier one.
    pub(crate) fn add(&self, slot: DiskSlot, service: DiskService) {
        // The earlier one ends its threads, which may wait for the host, when the lock is free again.
        let earlier = lock(&self.0).insert(slot, service);
        drop(earlier);
    }

    /// Ends the service of the disk in that slot.
    pub(crate) fn remove(&self, slot: DiskSlot) {
        let service = lock(&self.0).remove(&slot);
        drop(service);
    }

    /// Why QEMU is not connected to the disk in that slot any more; `None`: it is, or it has no disk there.
    pub(crate) fn lost_connection(&self, slot: DiskSlot) -> Option<String> {
        lock(&self.0).get(&slot)?.lost_connection()
    }

    /// Ends all services: the machine has ended.
    pub(crate) fn end(&self) {
        let services = std::mem::take(&mut *lock(&self.0));
        drop(services);
    }

    /// Carries out delayed commands at once, as long as the result exists.
    pub(crate) fn drain(&self) -> DrainGuard {
        self.set(Pace::Draining);
        DrainGuard(self.clone())
    }

    fn set(&self, pace: Pace) {
        for service in lock(&self.0).values() {
            service.set_pace(pace);
        }
    }
}

impl DrainGuard {
    /// The machine is paused now.
    pub(crate) fn set_paused(&self) {
        self.0.set(Pace::Paused);
    }
}

impl Drop for DrainGuard {
    fn drop(&mut self) {
        self.0.set(Pace::Normal);
    }
}

impl fmt::Debug for ServedDisks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(lock(&self.0).keys()).finish()
    }
}
