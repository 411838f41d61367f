//! The guest's side of disks: their device nodes, and where they are mounted.

use serde::{Deserialize, Serialize};

/// The virtio disks that the host has given to the guest. Setting them again changes nothing.
///
/// The reply comes when the guest sees each of them with its size and its partitions, its links in
/// `/dev/disk/by-id` are there, and it is mounted if that is wanted. Links of disks that the guest does
/// not have any more are removed. Nothing is unmounted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetDisks {
    /// The disks. One that the guest does not have yet, because it has just been plugged in, is waited for.
    pub disks: Vec<DiskConfig>,
}

/// One disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskConfig {
    /// The serial number of the device, by which it is found: 1 to 20 bytes of `[A-Za-z0-9_.-]`.
    pub serial: String,
    /// Bytes, a multiple of 512.
    pub size: u64,
    /// Whether the device refuses writes.
    pub read_only: bool,
    /// Whether its content is not what the guest may have cached of it: caches are dropped, and the
    /// partition table is read again. `EBUSY` if it is in use.
    pub is_replaced: bool,
    /// Whether a replaced disk may have a partition table, which begins in the first sector. Without one, only a
    /// device that has partitions is searched for them.
    pub may_have_partitions: bool,
    /// The serial number that the device had in the last request about disks, if only the host has used the guest
    /// since then. The device is found by it, without reading its serial number, and has no partitions. It is
    /// ignored unless all disks have it, and the agent has carried out that request.
    pub known_as: Option<String>,
    /// Where it is mounted, if it is not mounted there yet.
    pub mount: Option<DiskMount>,
}

/// Where a disk is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskMount {
    /// The mount point, an absolute path; made with the folders above it if it is missing.
    pub path: String,
    /// The type of the file system, as the kernel names it: `ext4`.
    pub filesystem: String,
    /// Mount it read-only. A disk that is read-only itself always is.
    pub read_only: bool,
}

/// The device node of a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskNode {
    /// As in [`DiskConfig::serial`].
    pub serial: String,
    /// Its name in `/dev`, such as `vda`.
    pub name: String,
}
