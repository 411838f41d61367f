//! The slots for one kind of device of a running machine.
//!
//! QEMU removes a device only when the guest has released it, at a time of the guest's choice: the event that
//! reports it reaches the supervisor, which marks the slot as released. The device's backend (a netdev, a block
//! node) is deleted by the unplug that waits for that, or else by the next plug.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use provium_qmp::{Event, QmpError};
use serde_json::{Value, json};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard, watch};
use tokio::time::timeout;

use crate::device::DeviceSlot;
use crate::device::bus::Slot;
use crate::error::VmmError;
use crate::machine::control::Control;

/// A guest that runs releases a device within 0.1 s; one on a crowded host, or one that boots, needs longer.
const RELEASE_DEADLINE: Duration = Duration::from_secs(30);

/// What is in a slot; an empty one is not listed.
#[derive(Debug)]
struct OccupiedSlot<B> {
    /// The backend of the device.
    backend: B,
    /// The guest has released the device, and only the backend is left.
    is_released: bool,
}

/// The slots `S` of a machine, and the backends `B` of the devices in them.
#[derive(Debug)]
pub(in crate::machine) struct Slots<S, B> {
    slots: Mutex<BTreeMap<S, OccupiedSlot<B>>>,
    /// Changes when the guest releases a device.
    released: watch::Sender<()>,
    /// Held while QEMU's devices and `slots` differ.
    changing: AsyncMutex<()>,
}

impl<S: Slot + Into<DeviceSlot>, B> Slots<S, B> {
    /// Those that are there at launch.
    pub(in crate::machine) fn new(launched: impl IntoIterator<Item = (S, B)>) -> Self {
        let slots = Self {
            slots: Mutex::default(),
            released: watch::Sender::new(()),
            changing: AsyncMutex::default(),
        };
        for (slot, backend) in launched {
            slots.put(slot, backend);
        }
        slots
    }

    /// Takes note of an event of QEMU.
    pub(in crate::machine) fn note(&self, event: &Event) {
        if event.name != "DEVICE_DELETED" {
            return;
        }
        let Some(slot) = event.data["device"].as_str().and_then(S::of_device) else {
            return;
        };
        if let Some(occupied) = self.lock().get_mut(&slot) {
            occupied.is_released = true;
        }
        self.released.send_replace(());
    }

    /// Waits until no device is added or changed, and keeps it so.
    pub(in crate::machine) async fn settled(&self) -> AsyncMutexGuard<'_, ()> {
        self.changing.lock().await
    }

    /// The slots with a device, in order. One that is being unplugged counts until the guest has released it.
    pub(in crate::machine) fn list(&self) -> Vec<S> {
        let slots = self.lock();
        let devices = slots.iter().filter(|(_, occupied)| !occupied.is_released);
        devices.map(|(slot, _)| *slot).collect()
    }

    /// Whether there is a device in the slot.
    pub(in crate::machine) fn has(&self, slot: S) -> bool {
        self.with(slot, |_| ()).is_some()
    }

    /// Reads or changes the backend of a device; `None` if the slot holds no device.
    pub(in crate::machine) fn with<R>(&self, slot: S, look: impl FnOnce(&mut B) -> R) -> Option<R> {
        let mut slots = self.lock();
        let occupied = slots.get_mut(&slot)?;
        (!occupied.is_released).then(|| look(&mut occupied.backend))
    }

    /// As [`Slots::with`], also if the guest has released the device meanwhile.
    pub(in crate::machine) fn with_any<R>(
        &self,
        slot: S,
        look: impl FnOnce(&mut B) -> R,
    ) -> Option<R> {
        let mut slots = self.lock();
        slots
            .get_mut(&slot)
            .map(|occupied| look(&mut occupied.backend))
    }

    /// Notes that there is a device in the slot.
    pub(in crate::machine) fn put(&self, slot: S, backend: B) {
        let occupied = OccupiedSlot {
            backend,
            is_released: false,
        };
        self.lock().insert(slot, occupied);
    }

    /// Reads or changes the backend of a released device, until it is cleared; `None` if there is none.
    pub(in crate::machine) fn with_left<R>(
        &self,
        slot: S,
        look: impl FnOnce(&mut B) -> R,
    ) -> Option<R> {
        let mut slots = self.lock();
        let occupied = slots.get_mut(&slot)?;
        occupied.is_released.then(|| look(&mut occupied.backend))
    }

    /// Notes that the slot is empty.
    pub(in crate::machine) fn clear(&self, slot: S) {
        self.lock().remove(&slot);
    }

    /// An error if the slot has a device, or the guest would not find one.
    pub(in crate::machine) async fn check_free(
        &self,
        control: &Control,
        slot: S,
    ) -> Result<(), VmmError> {
        if self.has(slot) {
            let kind = slot.into().kind();
            return Err(control.slot_error(slot, format!("holds a {kind} already")));
        }
        control.check_awake(slot).await
    }

    /// The error for a slot without a device.
    pub(in crate::machine) fn empty_error(&self, control: &Control, slot: S) -> VmmError {
        control.slot_error(slot, format!("holds no {}", slot.into().kind()))
    }

    /// Asks the guest to release a device, and waits until it has; `gone` shows the end of the machine. The slots are
    /// kept as they are until the guard is dropped.
    pub(in crate::machine) async fn release(
        &self,
        control: &Control,
        mut gone: watch::Receiver<bool>,
        slot: S,
    ) -> Result<AsyncMutexGuard<'_, ()>, VmmError> {
        let mut released = self.released.subscribe();
        let settled = self.settled().await;
        if !self.has(slot) {
            return Err(self.empty_error(control, slot));
        }
        control.check_awake(slot).await?;
        match control
            .query("device_del", json!({ "id": slot.device_id() }))
            .await
        {
            Err(VmmError::Control {
                source: QmpError::Refused { error, .. },
                ..
            }) if error.description.contains("in the process of unplug") => {}
            // It was just released; the event is on its way.
            Err(VmmError::Control {
                source: QmpError::Refused { error, .. },
                ..
            }) if error.class == "DeviceNotFound" => {}
            asked => drop(asked?),
        }
        drop(settled);
        let waited = timeout(RELEASE_DEADLINE, async {
            while self.has(slot) {
                tokio::select! {
                    // An error means that the machine is gone.
                    changed = released.changed() => if changed.is_err() { break },
                    _ = gone.wait_for(|gone| *gone) => break,
                }
            }
        });
        if waited.await.is_err() {
            return Err(VmmError::NotReleased {
                machine: control.machine().to_owned(),
                slot: slot.into(),
                deadline: RELEASE_DEADLINE,
            });
        }
        let settled = self.settled().await;
        if self.has(slot) {
            // The machine is gone: the control socket says why.
            control.command("query-status").await?;
        }
        Ok(settled)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<S, OccupiedSlot<B>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Control {
    /// A guest that sleeps (S3) does not see what is plugged.
    async fn check_awake(&self, slot: impl Into<DeviceSlot>) -> Result<(), VmmError> {
        match self.is_suspended().await? {
            true => Err(self.slot_error(
                slot,
                "cannot be changed while the guest sleeps: wake it first".to_owned(),
            )),
            false => Ok(()),
        }
    }

    pub(in crate::machine) fn slot_error(
        &self,
        slot: impl Into<DeviceSlot>,
        why: String,
    ) -> VmmError {
        VmmError::Slot {
            machine: self.machine().to_owned(),
            slot: slot.into(),
            why,
        }
    }

    /// Deletes a backend. QEMU may have none of that name: an earlier caller stopped waiting for the reply.
    pub(in crate::machine) async fn delete(
        &self,
        command: &str,
        name: Value,
    ) -> Result<(), VmmError> {
        match self.query(command, name).await {
            Ok(_)
            | Err(VmmError::Control {
                source: QmpError::Refused { .. },
                ..
            }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
