//! The disks of a running machine.
//!
//! A disk is inserted by exchanging the block node of its device, which QEMU allows while the machine runs.
//! `block_resize` then notifies the guest of the size by a change of the configuration space, also if the size is the
//! same. That command refuses read-only nodes, so a read-only disk is on a file of the new size meanwhile.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use camino::Utf8Path;
use provium_qmp::Event;
use rustix::fs::MemfdFlags;
use serde_json::{Value, json};
use tokio::join;
use tokio::sync::{MutexGuard, watch};

use super::export::{ask_export, check_export};
use super::slots::Slots;
use crate::device::bus::Slot as _;
use crate::device::{DiskDevice, DiskSlot};
use crate::error::VmmError;
use crate::machine::control::Control;

/// The slots for disks.
#[derive(Debug)]
pub(in crate::machine) struct Disks {
    slots: Slots<DiskSlot, Backend>,
    /// The number of the last block node. None is used twice, since an old node may be there for some time.
    last_node: AtomicU64,
}

/// The device and the block node of a disk.
#[derive(Debug)]
struct Backend {
    device: DiskDevice,
    /// Its block node.
    node: String,
}

impl Disks {
    /// Those that are there at launch, with placeholders.
    pub(in crate::machine) fn new(launched: &[DiskDevice]) -> Self {
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
    pub(in crate::machine) fn note(&self, event: &Event) {
        self.slots.note(event);
    }

    /// Waits until no disk is added or changed, and keeps it so.
    pub(in crate::machine) async fn settled(&self) -> MutexGuard<'_, ()> {
        self.slots.settled().await
    }

    /// In the order of their slots.
    pub(in crate::machine) fn list(&self) -> Vec<DiskDevice> {
        let slots = self.slots.list().into_iter();
        let device = |backend: &mut Backend| backend.device.clone();
        slots
            .filter_map(|slot| self.slots.with(slot, device))
            .collect()
    }

    pub(in crate::machine) async fn insert(
        &self,
        control: &Control,
        slot: DiskSlot,
        socket: &Utf8Path,
        known_size: Option<u64>,
    ) -> Result<(), VmmError> {
        let find = || {
            let found = self.slots.with(slot, |backend| {
                (backend.device.clone(), backend.node.clone())
            });
            found.ok_or_else(|| self.slots.empty_error(control, slot))
        };
        // The servers of several disks are asked at the same time.
        let (device, _) = find()?;
        let size = match known_size {
            Some(size) => size,
            None => export_size(control, &device, socket).await?,
        };
        let _settled = self.slots.settled().await;
        let (device, old) = find()?;
        let node = slot.node(self.new_number());
        let add = control.query("blockdev-add", device.nbd_node(&node, socket.as_str()));
        let inserted = match device.read_only {
            // Without waiting for a reply: if the node is not added, the exchange fails, too, and changes nothing.
            false => {
                let (added, exchanged) = join!(add, exchange(control, slot, &node, size));
                added.and(exchanged)
            }
            true => match add.await {
                Ok(_) => self.exchange_read_only(control, slot, &node, size).await,
                Err(error) => Err(error),
            },
        };
        if let Err(error) = inserted {
            control.queue("qom-set", &drive(slot, &old));
            control.queue("blockdev-del", &by_name(&node));
            return Err(error);
        }
        // The guest may have released the device meanwhile.
        self.slots.with_any(slot, |backend| backend.node = node);
        // The disk does not use it any more, so nothing has to wait for its end.
        control.queue("blockdev-del", &by_name(&old));
        Ok(())
    }

    pub(in crate::machine) async fn plug(
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
        export_size(control, &device, socket).await?;
        let node = slot.node(self.new_number());
        let arguments = device.nbd_node(&node, socket.as_str());
        control.query("blockdev-add", arguments).await?;
        if let Err(error) = control.query("device_add", device.device(&node)).await {
            control.queue("blockdev-del", &by_name(&node));
            return Err(error);
        }
        self.slots.put(slot, Backend { device, node });
        Ok(())
    }

    /// Asks the guest to release a disk, waits until it has, and closes the connection to its server; `gone` shows the
    /// end of the machine.
    pub(in crate::machine) async fn unplug(
        &self,
        control: &Control,
        gone: watch::Receiver<bool>,
        slot: DiskSlot,
    ) -> Result<(), VmmError> {
        let _settled = self.slots.release(control, gone, slot).await?;
        self.delete_node(control, slot).await
    }

    /// Deletes the block node of a disk that the guest has released, if there is one.
    async fn delete_node(&self, control: &Control, slot: DiskSlot) -> Result<(), VmmError> {
        let left = |backend: &mut Backend| backend.node.clone();
        if let Some(node) = self.slots.with_left(slot, left) {
            control.delete("blockdev-del", by_name(&node)).await?;
            self.slots.clear(slot);
        }
        Ok(())
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
            // The device must not use the blank node when it is deleted.
            control.queue("qom-set", &drive(slot, node));
        }
        control.queue("blockdev-del", &by_name(&blank));
        exchanged
    }

    /// Gives a disk this number of bytes, all zeroes, without a server.
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
    pub(in crate::machine) async fn insert_blanks(
        &self,
        control: &Control,
        size: u64,
    ) -> Result<(), VmmError> {
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

/// Asks an NBD server what it exports, and checks that it can serve the disk; the size of its export, bytes.
async fn export_size(
    control: &Control,
    device: &DiskDevice,
    socket: &Utf8Path,
) -> Result<u64, VmmError> {
    let asked = ask_export(socket).await;
    let checked = asked.and_then(|export| check_export(export, device.read_only));
    let export = checked.map_err(|source| VmmError::Export {
        machine: control.machine().to_owned(),
        slot: device.slot,
        socket: socket.to_owned(),
        source,
    })?;
    Ok(export.size)
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

/// A sparse file of this size in memory.
fn sparse_file(size: u64) -> io::Result<File> {
    let file = File::from(rustix::fs::memfd_create("disk", MemfdFlags::CLOEXEC)?);
    file.set_len(size)?;
    Ok(file)
}
