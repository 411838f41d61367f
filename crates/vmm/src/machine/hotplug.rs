//! Plugs and unplugs NICs of a running machine.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use provium_qmp::QmpError;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::handle::Machine;
use crate::error::VmmError;
use crate::nic::NicSlot;

/// A guest that runs releases a NIC within 0.1 s; one on a crowded host, or one that boots, needs longer.
const RELEASE_DEADLINE: Duration = Duration::from_secs(30);

impl Machine {
    /// The slots that hold a NIC, in order. One that is being unplugged counts until the guest has released it.
    pub fn nics(&self) -> Vec<NicSlot> {
        self.nics.list()
    }

    /// Our end of the socket of a NIC; it is given once. Each frame has its length before it, four bytes, most
    /// significant first. If this end is closed, QEMU does not connect to another: the guest keeps a NIC that
    /// loses all frames, until it is unplugged.
    pub fn take_nic_socket(&self, slot: NicSlot) -> Option<UnixStream> {
        self.nics.take_socket(slot)
    }

    /// Plugs a NIC; returns our end of its socket. The guest finds it when it runs next. If the future is dropped,
    /// the NIC may be there nevertheless, with a socket that can be [taken](Machine::take_nic_socket).
    ///
    /// # Errors
    /// [`VmmError::Nic`] if the slot holds one already, or the guest sleeps (S3), since it would not find the NIC
    /// when it wakes; [`VmmError::Host`] without a socket; as [`Machine::pause`].
    pub async fn plug_nic(&self, slot: NicSlot) -> Result<UnixStream, VmmError> {
        let (nics, control) = (Arc::clone(&self.nics), self.control.clone());
        // In a task of its own, which a caller that stops waiting does not stop halfway.
        let plugged = tokio::spawn(async move { nics.plug(&control, slot).await });
        plugged
            .await
            .map_err(|error| self.control.host_error("a task", error.into()))??;
        let socket = self.nics.take_socket(slot);
        socket.ok_or_else(|| self.control.nic_error(slot, "was released at once"))
    }

    /// Unplugs a NIC; returns when the guest has released it. After an error, or when the future is dropped, the
    /// guest may still release it later: [`Machine::nics`] lists it until then.
    ///
    /// # Errors
    /// [`VmmError::Nic`] if there is none, or the guest sleeps (S3), since the reset by which it wakes would take
    /// the NIC from its driver; [`VmmError::NotReleased`] after 30 s, such as of a paused guest; as
    /// [`Machine::pause`].
    pub async fn unplug_nic(&self, slot: NicSlot) -> Result<(), VmmError> {
        let mut released = self.nics.released.subscribe();
        let settled = self.nics.settled().await;
        if !self.nics.has(slot) {
            return Err(self.control.nic_error(slot, "holds no NIC"));
        }
        self.control.check_awake(slot).await?;
        match self
            .control
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
        let mut gone = self.status.gone.subscribe();
        let waited = timeout(RELEASE_DEADLINE, async {
            while self.nics.has(slot) {
                tokio::select! {
                    // An error means that the machine is gone.
                    changed = released.changed() => if changed.is_err() { break },
                    _ = gone.wait_for(|gone| *gone) => break,
                }
            }
        });
        if waited.await.is_err() {
            return Err(VmmError::NotReleased {
                machine: self.spec.name.clone(),
                slot,
                deadline: RELEASE_DEADLINE,
            });
        }
        let _settled = self.nics.settled().await;
        if self.nics.has(slot) {
            // The machine is gone: the control socket says why.
            return self.control.command("query-status").await;
        }
        self.nics.delete_netdev(&self.control, slot).await
    }

    /// Sets the carrier of a NIC. Without it the guest's interface is down, and frames are dropped in both
    /// directions. It stays as it is set through resets and saves; a new NIC does not have it, until it is connected.
    ///
    /// # Errors
    /// [`VmmError::Nic`] if the slot holds none; as [`Machine::pause`].
    pub async fn set_nic_link(&self, slot: NicSlot, up: bool) -> Result<(), VmmError> {
        let _settled = self.nics.settled().await;
        if !self.nics.has(slot) {
            return Err(self.control.nic_error(slot, "holds no NIC"));
        }
        self.control
            .query("set_link", slot.link(up))
            .await
            .map(drop)
    }

    /// Takes the carriers of NICs that are there at launch, before the guest runs.
    pub(super) async fn disconnect_nics(&self) -> Result<(), VmmError> {
        for slot in self.nics() {
            self.set_nic_link(slot, false).await?;
        }
        Ok(())
    }

    /// The NICs that QEMU has now, which may be fewer than [`Machine::nics`]: the event that reports a release
    /// follows it.
    pub(super) async fn attached_nics(&self) -> Result<Vec<NicSlot>, VmmError> {
        let listed = self.nics.list();
        if listed.is_empty() {
            return Ok(listed);
        }
        let arguments = json!({ "path": "/machine/peripheral" });
        let found = self.control.query("qom-list", arguments).await?;
        let attached = |slot: &NicSlot| {
            let id = slot.device_id();
            let devices = found.as_array().into_iter().flatten();
            devices
                .into_iter()
                .any(|device: &Value| device["name"] == id.as_str())
        };
        Ok(listed.into_iter().filter(attached).collect())
    }
}
