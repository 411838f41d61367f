//! The disks of a running machine.
//!
//! A disk is inserted by exchanging the block node of its device, which QEMU allows while the machine runs. The guest
//! learns of the new size when its configuration space changes, which `block_resize` reports, also if the size is what
//! it was. That command refuses nodes that are read-only, so a read-only disk is on a file of the new size meanwhile.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use camino::Utf8Path;
use provium_qmp::Event;
use rustix::fs::MemfdFlags;
use serde_json::{Value, json};
use tokio::join;
use tokio::sync::MutexGuard;

use super::control::Control;
use super::export_info::ExportInfo;
use super::handle::Machine;
use super::slots::Slots;
use crate::bus::Slot as _;
use crate::disk::{DiskDevice, DiskSlot};
use crate::error::VmmError;

/// The slots for disks.
#[derive(Debug)]
pub(super) struct Disks {
    slots: Slots<DiskSlot, Backend>,
    /// The number of the last block node. None is used twice, since an old node may be there for some time.
    last_node: AtomicU64,
}

/// What a disk is made of.
#[derive(Debug)]
struct Backend {
    device: DiskDevice,
    /// Its block node.
    node: String,
}

impl Disks {
    /// Those that are there at launch, with placeholders.
    pub(super) fn new(launched: &[DiskDevice]) -> Self {
        let launched = launched.iter().map(|device| {
            let backend = Backend {
                node: device.slot.node(0),
                device: device.clone(),
            };
            (device.slot, backend)
        });
        Self {
            slots: Slots::new(launched),
            last_node: AtomicU64::new(0),
        }
    }

    /// Takes note of an event of QEMU.
    pub(super) fn note(&self, event: &Event) {
        self.slots.note(event);
    }

    /// Waits until no disk is added or changed, and keeps it so.
    pub(super) async fn settled(&self) -> MutexGuard<'_, ()> {
        self.slots.settled().await
    }

    /// In the order of their slots.
    fn list(&self) -> Vec<DiskDevice> {
        let slots = self.slots.list().into_iter();
        let device = |backend: &mut Backend| backend.device.clone();
        slots
            .filter_map(|slot| self.slots.with(slot, device))
            .collect()
    }

    async fn insert(
        &self,
        control: &Control,
        slot: DiskSlot,
        socket: &Utf8Path,
    ) -> Result<(), VmmError> {
        let _settled = self.slots.settled().await;
        let found = self.slots.with(slot, |backend| {
            (backend.device.clone(), backend.node.clone())
        });
        let Some((device, old)) = found else {
            return Err(self.slots.empty_error(control, slot));
        };
        let (node, size) = self.add_node(control, &device, socket).await?;
        let exchanged = match device.read_only {
            false => exchange(control, slot, &node, size).await,
            true => self.exchange_read_only(control, slot, &node, size).await,
        };
        if let Err(error) = exchanged {
            control.queue("qom-set", &drive(slot, &old));
            control.queue("blockdev-del", &by_name(&node));
            return Err(error);
        }
        // The guest may have released the device meanwhile.
        self.slots.with_any(slot, |backend| backend.node = node);
        control.query("blockdev-del", by_name(&old)).await.map(drop)
    }

    async fn plug(
        &self,
        control: &Control,
        device: DiskDevice,
        socket: &Utf8Path,
    ) -> Result<(), VmmError> {
        let slot = device.slot;
        if let Some(why) = device.fault() {
            let machine = control.machine().to_owned();
            return Err(VmmError::Specification { machine, why });
        }
        let _settled = self.slots.settled().await;
        self.slots.check_free(control, slot).await?;
        self.delete_node(control, slot).await?;
        let (node, _) = self.add_node(control, &device, socket).await?;
        if let Err(error) = control.query("device_add", device.device(&node)).await {
            control.queue("blockdev-del", &by_name(&node));
            return Err(error);
        }
        self.slots.put(slot, Backend { device, node });
        Ok(())
    }

    /// Deletes what a released disk leaves, if it leaves anything.
    async fn delete_node(&self, control: &Control, slot: DiskSlot) -> Result<(), VmmError> {
        let left = |backend: &mut Backend| backend.node.clone();
        if let Some(node) = self.slots.with_left(slot, left) {
            control.delete("blockdev-del", by_name(&node)).await?;
            self.slots.clear(slot);
        }
        Ok(())
    }

    /// Connects QEMU to an NBD server; returns the block node, and its size in bytes.
    async fn add_node(
        &self,
        control: &Control,
        device: &DiskDevice,
        socket: &Utf8Path,
    ) -> Result<(String, u64), VmmError> {
        let checked = ExportInfo::ask(socket).await;
        let checked = checked.and_then(|info| info.check(device.read_only));
        let info = checked.map_err(|source| VmmError::Export {
            machine: control.machine().to_owned(),
            slot: device.slot,
            socket: socket.to_owned(),
            source,
        })?;
        let node = device.slot.node(self.new_number());
        let arguments = device.nbd_node(&node, socket.as_str());
        control.query("blockdev-add", arguments).await?;
        Ok((node, info.size))
    }

    /// As [`exchange`], for a node that is read-only.
    async fn exchange_read_only(
        &self,
        control: &Control,
        slot: DiskSlot,
        node: &str,
        size: u64,
    ) -> Result<(), VmmError> {
        let blank = self.add_blank(control, slot, size).await?;
        let exchanged = match exchange(control, slot, &blank, size).await {
            Ok(()) => control.query("qom-set", drive(slot, node)).await.map(drop),
            failed => failed,
        };
        if exchanged.is_err() {
            // Out of use again, so that it can be deleted.
            control.queue("qom-set", &drive(slot, node));
        }
        control.queue("blockdev-del", &by_name(&blank));
        exchanged
    }

    /// Gives a disk zeroes of this size in bytes; see [`Standby::insert_blank_disks`].
    ///
    /// [`Standby::insert_blank_disks`]: super::standby::Standby::insert_blank_disks
    async fn insert_blank(
        &self,
        control: &Control,
        slot: DiskSlot,
        size: u64,
    ) -> Result<(), VmmError> {
        let blank = self.add_blank(control, slot, size).await?;
        exchange(control, slot, &blank, size).await?;
        let old = self
            .slots
            .with_any(slot, |backend| std::mem::replace(&mut backend.node, blank));
        match old {
            Some(old) => control.query("blockdev-del", by_name(&old)).await.map(drop),
            None => Ok(()),
        }
    }

    /// As [`Disks::insert_blank`], all disks.
    pub(super) async fn insert_blanks(&self, control: &Control, size: u64) -> Result<(), VmmError> {
        let _settled = self.slots.settled().await;
        for slot in self.slots.list() {
            self.insert_blank(control, slot, size).await?;
        }
        Ok(())
    }

    /// A block node of zeroes, which are a sparse file in memory.
    async fn add_blank(
        &self,
        control: &Control,
        slot: DiskSlot,
        size: u64,
    ) -> Result<String, VmmError> {
        let file = sparse_file(size).map_err(|error| control.host_error("memory", error))?;
        let number = self.new_number();
        // QEMU may keep a descriptor for some time after it was removed, so each has a set of its own.
        let set = json!({ "fdset-id": number });
        control
            .query_with_fd("add-fd", set.clone(), file.into())
            .await?;
        let node = slot.node(number);
        let arguments = json!({
            "driver": "file",
            "node-name": node,
            "filename": format!("/dev/fdset/{number}"),
            "locking": "off",
        });
        let added = control.query("blockdev-add", arguments).await;
        // The node has a duplicate.
        control.queue("remove-fd", &set);
        added.map(|_| node)
    }

    /// A number that no block node has had.
    fn new_number(&self) -> u64 {
        self.last_node.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Gives a disk this block node, and reports its size to the guest.
async fn exchange(
    control: &Control,
    slot: DiskSlot,
    node: &str,
    size: u64,
) -> Result<(), VmmError> {
    let (set, resized) = join!(
        control.query("qom-set", drive(slot, node)),
        control.query("block_resize", json!({ "node-name": node, "size": size })),
    );
    set.and(resized).map(drop)
}

/// The arguments of `qom-set` that give a disk a block node.
fn drive(slot: DiskSlot, node: &str) -> Value {
    json!({
        "path": format!("/machine/peripheral/{}", slot.device_id()),
        "property": "drive",
        "value": node,
    })
}

fn by_name(node: &str) -> Value {
    json!({ "node-name": node })
}

/// A file of this size in memory, which takes none.
fn sparse_file(size: u64) -> io::Result<File> {
    let file = File::from(rustix::fs::memfd_create("disk", MemfdFlags::CLOEXEC)?);
    file.set_len(size)?;
    Ok(file)
}

impl Machine {
    /// Its disks, in the order of their slots. One that is being unplugged counts until the guest has released it.
    pub fn disks(&self) -> Vec<DiskDevice> {
        self.disks.list()
    }

    /// Gives a disk the content of the default export of the NBD server at `socket`, instead of its placeholder or of
    /// an earlier server's. The machine may be in any state, also before it first runs. A guest that runs is
    /// notified of the size, even if it is what it was; what it has cached of the content is not its concern.
    ///
    /// A connection that ends later fails all commands of the guest with an input/output error; QEMU does not
    /// connect again by itself, but another insertion does.
    ///
    /// # Errors
    /// [`VmmError::Export`] if the server cannot serve this disk; [`VmmError::Slot`] if there is no disk; as
    /// [`Machine::pause`]. The disk is as it was.
    pub async fn insert_disk(&self, slot: DiskSlot, socket: &Utf8Path) -> Result<(), VmmError> {
        let (disks, control) = (Arc::clone(&self.disks), self.control.clone());
        let socket = socket.to_owned();
        self.uninterrupted(async move { disks.insert(&control, slot, &socket).await })
            .await
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
        let _settled = self.disks.slots.release(&self.control, gone, slot).await?;
        self.disks.delete_node(&self.control, slot).await
    }
}
