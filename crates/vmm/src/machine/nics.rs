//! The slots for NICs of a running machine.
//!
//! QEMU removes a NIC only when the guest has released it, at a time of the guest's choice: the event that
//! reports it reaches the supervisor, which marks the slot as released. Its netdev is deleted by the unplug
//! that waits for that, or else by the next plug.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};

use provium_qmp::{Event, QmpError};
use serde_json::json;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard, watch};

use super::control::Control;
use crate::error::VmmError;
use crate::nic::NicSlot;

/// What is in a slot; an empty one is not listed.
#[derive(Debug)]
enum Content {
    /// A NIC, with our end of its socket until that is taken.
    Nic(Option<UnixStream>),
    /// The netdev of a NIC that the guest has released.
    Netdev,
}

/// The slots of a machine.
#[derive(Debug)]
pub(super) struct Nics {
    slots: Mutex<BTreeMap<NicSlot, Content>>,
    /// Changes when the guest releases a NIC.
    pub(super) released: watch::Sender<()>,
    /// Held while QEMU's devices and `slots` differ.
    changing: AsyncMutex<()>,
}

impl Nics {
    /// Those that are there at launch.
    pub(super) fn new(launched: Vec<(NicSlot, UnixStream)>) -> Self {
        let nics = launched.into_iter();
        let nics = nics.map(|(slot, socket)| (slot, Content::Nic(Some(socket))));
        Self {
            slots: Mutex::new(nics.collect()),
            released: watch::Sender::new(()),
            changing: AsyncMutex::default(),
        }
    }

    /// Takes note of an event of QEMU.
    pub(super) fn note(&self, event: &Event) {
        if event.name != "DEVICE_DELETED" {
            return;
        }
        let Some(slot) = event.data["device"].as_str().and_then(NicSlot::of_device) else {
            return;
        };
        if let Some(content) = self.lock().get_mut(&slot) {
            *content = Content::Netdev;
        }
        self.released.send_replace(());
    }

    /// Waits until no device is added, and keeps it so.
    pub(super) async fn settled(&self) -> AsyncMutexGuard<'_, ()> {
        self.changing.lock().await
    }

    /// The slots with a NIC, in order.
    pub(super) fn list(&self) -> Vec<NicSlot> {
        let slots = self.lock();
        let nics = slots
            .iter()
            .filter(|(_, content)| matches!(content, Content::Nic(_)));
        nics.map(|(slot, _)| *slot).collect()
    }

    pub(super) fn take_socket(&self, slot: NicSlot) -> Option<UnixStream> {
        match self.lock().get_mut(&slot) {
            Some(Content::Nic(socket)) => socket.take(),
            _ => None,
        }
    }

    pub(super) fn has(&self, slot: NicSlot) -> bool {
        matches!(self.lock().get(&slot), Some(Content::Nic(_)))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NicSlot, Content>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a NIC; its socket can be taken then.
    pub(super) async fn plug(&self, control: &Control, slot: NicSlot) -> Result<(), VmmError> {
        let _changing = self.changing.lock().await;
        if self.has(slot) {
            return Err(control.nic_error(slot, "holds a NIC already"));
        }
        control.check_awake(slot).await?;
        self.delete_netdev(control, slot).await?;
        let (ours, theirs) =
            UnixStream::pair().map_err(|error| control.host_error("a socket", error))?;
        let name = slot.netdev_id();
        control.pass_fd(&name, OwnedFd::from(theirs)).await?;
        if let Err(error) = control.query("netdev_add", slot.netdev(&name)).await {
            control.queue("closefd", &json!({ "fdname": name }));
            return Err(error);
        }
        if let Err(error) = control.query("device_add", slot.device()).await {
            control.queue("netdev_del", &json!({ "id": name }));
            return Err(error);
        }
        // Long before the guest's driver looks at it.
        control.query("set_link", slot.link(false)).await?;
        self.lock().insert(slot, Content::Nic(Some(ours)));
        Ok(())
    }

    /// Deletes what a released NIC leaves, if it leaves anything.
    pub(super) async fn delete_netdev(
        &self,
        control: &Control,
        slot: NicSlot,
    ) -> Result<(), VmmError> {
        if !matches!(self.lock().get(&slot), Some(Content::Netdev)) {
            return Ok(());
        }
        let arguments = json!({ "id": slot.netdev_id() });
        match control.query("netdev_del", arguments).await {
            // An earlier caller stopped waiting for the reply.
            Ok(_)
            | Err(VmmError::Control {
                source: QmpError::Refused { .. },
                ..
            }) => {}
            Err(error) => return Err(error),
        }
        self.lock().remove(&slot);
        Ok(())
    }
}

impl Control {
    /// A guest that sleeps (S3) does not see what is plugged.
    pub(super) async fn check_awake(&self, slot: NicSlot) -> Result<(), VmmError> {
        match self.is_suspended().await? {
            true => Err(self.nic_error(
                slot,
                "cannot be changed while the guest sleeps: wake it first",
            )),
            false => Ok(()),
        }
    }

    pub(super) fn nic_error(&self, slot: NicSlot, why: &'static str) -> VmmError {
        let machine = self.machine().to_owned();
        VmmError::Nic { machine, slot, why }
    }

    pub(super) fn host_error(&self, what: &'static str, source: io::Error) -> VmmError {
        let machine = self.machine().to_owned();
        VmmError::Host {
            machine,
            what,
            source,
        }
    }
}
