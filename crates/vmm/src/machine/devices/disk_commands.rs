//! The commands for disks.

use std::sync::Arc;

use camino::Utf8Path;

use crate::device::{DiskDevice, DiskSlot};
use crate::error::VmmError;
use crate::machine::handle::Machine;

impl Machine {
    /// Its disks, in the order of their slots. One that is being unplugged counts until the guest has released it.
    pub fn disks(&self) -> Vec<DiskDevice> {
        self.disks.list()
    }

    /// Gives a disk the content of the default export of the NBD server at `socket`, in place of its placeholder or of
    /// an earlier server's. The machine may be in any state, also before it first runs. A guest that runs is
    /// notified of the size, even if it is the same. The caller makes the guest drop what it has cached.
    ///
    /// A connection that ends later fails all commands of the guest with an input/output error; QEMU does not
    /// connect again by itself, but another insertion does.
    ///
    /// # Errors
    /// [`VmmError::Export`] if the server cannot serve this disk; [`VmmError::Slot`] if the slot holds none; as
    /// [`Machine::pause`]. The disk is as it was.
    pub async fn insert_disk(&self, slot: DiskSlot, socket: &Utf8Path) -> Result<(), VmmError> {
        let (disks, control) = (Arc::clone(&self.disks), self.control.clone());
        let socket = socket.to_owned();
        self.uninterrupted(async move { disks.insert(&control, slot, &socket, None).await })
            .await
    }

    /// As [`Machine::insert_disk`], with a server of this process, which is not asked first whether it can serve the
    /// disk: its export has `size` bytes, whole sectors of 512, and it answers at once. While QEMU negotiates with a
    /// server that does not, neither QEMU's control socket nor the guest's console works.
    ///
    /// # Errors
    /// As [`Machine::insert_disk`], but for [`VmmError::Export`].
    pub async fn insert_own_disk(
        &self,
        slot: DiskSlot,
        socket: &Utf8Path,
        size: u64,
    ) -> Result<(), VmmError> {
        let (disks, control) = (Arc::clone(&self.disks), self.control.clone());
        let socket = socket.to_owned();
        let insertion = async move { disks.insert(&control, slot, &socket, Some(size)).await };
        self.uninterrupted(insertion).await
    }

    /// Plugs a disk, whose content is the default export of the NBD server at `socket`. The guest finds it when it
    /// runs next. If the future is dropped, the disk may be there nevertheless.
    ///
    /// # Errors
    /// [`VmmError::Export`] if the server cannot serve this disk; [`VmmError::Slot`] if the slot holds one already, or
    /// the guest sleeps (S3), since it would not find the disk when it wakes; [`VmmError::Specification`] for a serial
    /// that a disk cannot have; as [`Machine::pause`].
    pub async fn plug_disk(&self, device: DiskDevice, socket: &Utf8Path) -> Result<(), VmmError> {
        let (disks, control) = (Arc::clone(&self.disks), self.control.clone());
        let socket = socket.to_owned();
        self.uninterrupted(async move { disks.plug(&control, device, &socket).await })
            .await
    }

    /// Unplugs a disk; returns when the guest has released it and QEMU has closed its connection. After an error, or
    /// when the future is dropped, the guest may still release it later: [`Machine::disks`] lists it until then.
    ///
    /// # Errors
    /// [`VmmError::Slot`] if there is none, or the guest sleeps (S3); [`VmmError::NotReleased`] after 30 s, such as of
    /// a paused guest; as [`Machine::pause`].
    pub async fn unplug_disk(&self, slot: DiskSlot) -> Result<(), VmmError> {
        let gone = self.status.gone.subscribe();
        self.disks.unplug(&self.control, gone, slot).await
    }
}
