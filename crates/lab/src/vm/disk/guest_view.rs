//! Makes a guest see its disks as they are: their sizes, partitions, device names and mounts, and nothing that it has
//! cached of earlier content.

use crate::disk::VmDisk;
use provium_guest::{CallError, Channel};
use provium_protocol::op::{DiskConfig, DiskMount, SetDisks};

/// What a guest has seen of a disk so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GuestView {
    /// Nothing, or its content.
    Current,
    /// Other content, which it may have cached.
    Stale,
    /// A disk without content, which nothing has used, with this serial number if it is known.
    Empty { serial: Option<String> },
}

/// Makes a guest see these disks, which are all that it has. `found` returns what it has seen of them.
pub(crate) async fn settle_disks(
    channel: &Channel,
    disks: &mut [VmDisk],
    found: impl Fn(&VmDisk) -> GuestView,
) -> Result<(), CallError> {
    let configs = disks.iter().map(|disk| {
        let (is_replaced, known_as) = match found(disk) {
            GuestView::Current => (false, None),
            GuestView::Stale => (true, None),
            GuestView::Empty { serial } => (true, serial),
        };
        DiskConfig {
            serial: disk.id.serial(),
            size: disk.volume.disk().size(),
            read_only: disk.options.read_only,
            is_replaced,
            may_have_partitions: is_replaced && disk.volume.may_have_partitions(),
            known_as,
            mount: disk.options.mount.as_ref().map(|path| DiskMount {
                path: path.clone(),
                filesystem: filesystem(disk),
                read_only: disk.options.read_only,
            }),
        }
    });
    let request = SetDisks {
        disks: configs.collect(),
    };
    let nodes = channel.set_disks(request).await?;
    for disk in disks {
        let serial = disk.id.serial();
        let node = nodes.iter().find(|node| node.serial == serial);
        disk.node = node.map(|node| node.name.clone());
    }
    Ok(())
}

/// The file system that the guest is to mount: the one that is named, or else the one that is on the disk. A disk with
/// none that is known may be mounted already; otherwise the agent reports that it has no ext4.
fn filesystem(disk: &VmDisk) -> String {
    let named = disk.options.filesystem.clone();
    named.unwrap_or_else(|| disk.volume.filesystem().unwrap_or("ext4").to_owned())
}
