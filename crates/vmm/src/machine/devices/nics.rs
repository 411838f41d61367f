//! The NICs of a running machine.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use serde_json::json;

use super::slots::Slots;
use crate::device::NicSlot;
use crate::error::VmmError;
use crate::machine::control::Control;

/// The slots for NICs. The backend is a netdev with our end of its socket, until that is taken.
pub(in crate::machine) type Nics = Slots<NicSlot, Option<UnixStream>>;

impl Nics {
    /// Adds a NIC; its socket can be taken then.
    pub(in crate::machine) async fn plug(
        &self,
        control: &Control,
        slot: NicSlot,
    ) -> Result<(), VmmError> {
        let _settled = self.settled().await;
        self.check_free(control, slot).await?;
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
        // Before the guest's driver reads the link state.
        control.query("set_link", slot.link(false)).await?;
        self.put(slot, Some(ours));
        Ok(())
    }

    /// Deletes the netdev of a NIC that the guest has released, if there is one.
    pub(in crate::machine) async fn delete_netdev(
        &self,
        control: &Control,
        slot: NicSlot,
    ) -> Result<(), VmmError> {
        if self.with_left(slot, |_| ()).is_some() {
            let name = json!({ "id": slot.netdev_id() });
            control.delete("netdev_del", name).await?;
            self.clear(slot);
        }
        Ok(())
    }
}
