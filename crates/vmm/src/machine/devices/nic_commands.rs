//! The commands for NICs.

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use crate::device::NicSlot;
use crate::error::VmmError;
use crate::machine::handle::Machine;

impl Machine {
    /// The slots that hold a NIC, in order. One that is being unplugged counts until the guest has released it.
    pub fn nics(&self) -> Vec<NicSlot> {
        self.nics.list()
    }

    /// Our end of the socket of a NIC; it is given once. Each frame has its length before it, four bytes, most
    /// significant first. If this end is closed, QEMU does not connect to another: the guest keeps a NIC that
    /// loses all frames, until it is unplugged.
    pub fn take_nic_socket(&self, slot: NicSlot) -> Option<UnixStream> {
        self.nics.with(slot, Option::take).flatten()
    }

    /// Plugs a NIC; returns our end of its socket. The guest finds it when it runs next. If the future is dropped,
    /// the NIC may be there nevertheless, with a socket that can be [taken](Machine::take_nic_socket).
    ///
    /// # Errors
    /// [`VmmError::Slot`] if the slot holds one already, or the guest sleeps (S3), since it would not find the NIC
    /// when it wakes; [`VmmError::Host`] without a socket; as [`Machine::pause`].
    pub async fn plug_nic(&self, slot: NicSlot) -> Result<UnixStream, VmmError> {
        let (nics, control) = (Arc::clone(&self.nics), self.control.clone());
        self.uninterrupted(async move { nics.plug(&control, slot).await })
            .await?;
        let socket = self.take_nic_socket(slot);
        let released = || self.control.slot_error(slot, "was released at once".into());
        socket.ok_or_else(released)
    }

    /// Unplugs a NIC; returns when the guest has released it. After an error, or when the future is dropped, the
    /// guest may still release it later: [`Machine::nics`] lists it until then.
    ///
    /// # Errors
    /// [`VmmError::Slot`] if there is none, or the guest sleeps (S3), since the reset by which it wakes would take
    /// the NIC from its driver; [`VmmError::NotReleased`] after 30 s, such as of a paused guest; as
    /// [`Machine::pause`].
    pub async fn unplug_nic(&self, slot: NicSlot) -> Result<(), VmmError> {
        let gone = self.status.gone.subscribe();
        let _settled = self.nics.release(&self.control, gone, slot).await?;
        self.nics.delete_netdev(&self.control, slot).await
    }

    /// Sets the carrier of a NIC. Without it the guest's interface is down, and frames are dropped in both
    /// directions. It stays as it is set through resets and saves; a new NIC does not have it, until it is connected.
    ///
    /// # Errors
    /// [`VmmError::Slot`] if the slot holds none; as [`Machine::pause`].
    pub async fn set_nic_link(&self, slot: NicSlot, up: bool) -> Result<(), VmmError> {
        let _settled = self.nics.settled().await;
        if !self.nics.has(slot) {
            return Err(self.nics.empty_error(&self.control, slot));
        }
        self.control
            .query("set_link", slot.link(up))
            .await
            .map(drop)
    }

    /// Takes the carriers of NICs that are there at launch, before the guest runs.
    pub(in crate::machine) async fn disconnect_nics(&self) -> Result<(), VmmError> {
        for slot in self.nics() {
            self.set_nic_link(slot, false).await?;
        }
        Ok(())
    }
}
