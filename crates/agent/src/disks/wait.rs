//! Waiting for devices: of a disk that has just been plugged in, that has a new size, or whose driver is not
//! loaded.

use super::devices::{Device, DiskName};
use crate::failure;
use crate::module_requests::{self, ModuleRequests, Stop};
use crate::roots;
use crate::sys::{Errno, Sys, boot, file, netlink};
use provium_protocol::WireError;
use provium_protocol::op::DiskConfig;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

/// The driver of disks, after what it needs. What else these depend on is the host's knowledge.
pub(super) const DRIVERS: [&str; 2] = ["virtio_pci", "virtio_blk"];

/// How long a device may take to appear. A plug takes a fraction of a second in an emulated guest.
const LIMIT: Duration = Duration::from_secs(10);

/// Why a disk is not usable yet.
#[derive(Debug, PartialEq, Eq)]
enum MissingPart {
    Device,
    /// It has this many bytes.
    Size(u64),
}

/// The devices of the guest, once those of all disks are there with their sizes. `known`: those of the disks, if they
/// are known.
pub(super) fn await_devices(
    disks: &[DiskConfig],
    known: Option<Vec<Device>>,
    modules: &mut ModuleRequests,
) -> Result<Vec<Device>, Stop> {
    let mut devices = match known {
        Some(known) => known,
        None => list()?,
    };
    if first_lack(roots::SYS, disks, &devices).is_none() {
        return Ok(devices);
    }
    let events = boot::device_events()
        .map_err(|errno| failure::os("listening for events of devices", errno))?;
    let deadline = Instant::now() + LIMIT;
    let mut unavailable = None;
    loop {
        let Some((disk, lack)) = first_lack(roots::SYS, disks, &devices) else {
            return Ok(devices);
        };
        // Also of a disk after the first that lacks something: its event may come before that of the first.
        let is_absent = |disk: &DiskConfig| Device::find(disk, &devices).is_none();
        let lacks_device = lack == MissingPart::Device || disks.iter().any(is_absent);
        if lacks_device && unavailable.is_none() {
            unavailable = Some(load_drivers(events.as_raw_fd(), modules)?);
            devices = list()?;
            continue;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let mut unavailable = unavailable.unwrap_or_default();
            unavailable.retain(|_| !has_driver());
            return Err(not_ready(disk, &lack, &devices, &unavailable).into());
        }
        netlink::await_event(&events, left);
        // A list asks each device for its serial number, which takes the driver as long as reading a sector.
        if lacks_device {
            devices = list()?;
        }
    }
}

/// The name of the device with this serial number, once it is there. Its driver is loaded already, or part of
/// the kernel.
pub(crate) fn await_disk(serial: &str) -> Result<String, WireError> {
    let name = |devices: &[Device]| {
        let mut devices = devices.iter();
        let device = devices.find(|device| device.serial == serial)?;
        Some(device.name.clone())
    };
    if let Some(found) = name(&list()?) {
        return Ok(found);
    }
    let events = boot::device_events()
        .map_err(|errno| failure::os("listening for events of devices", errno))?;
    let deadline = Instant::now() + LIMIT;
    loop {
        let devices = list()?;
        if let Some(found) = name(&devices) {
            return Ok(found);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(not_found(serial, &devices, &[]));
        }
        netlink::await_event(&events, left);
    }
}

fn list() -> Result<Vec<Device>, WireError> {
    match Device::list(roots::SYS) {
        // Without any disk, a kernel need not have the folder.
        Err(Errno::NOENT) => Ok(Vec::new()),
        other => other.map_err(|errno| failure::os("listing the block devices", errno)),
    }
}

/// Whether all disks are there with their sizes.
pub(super) fn are_ready(disks: &[DiskConfig], devices: &[Device]) -> bool {
    first_lack(roots::SYS, disks, devices).is_none()
}

/// The first disk that is not usable yet.
fn first_lack<'a>(
    sys: RawFd,
    disks: &'a [DiskConfig],
    devices: &[Device],
) -> Option<(&'a DiskConfig, MissingPart)> {
    disks.iter().find_map(|disk| {
        let Some(device) = Device::find(disk, devices) else {
            return Some((disk, MissingPart::Device));
        };
        match device.size(sys) {
            Some(size) if size == disk.size => None,
            Some(size) => Some((disk, MissingPart::Size(size))),
            None => Some((disk, MissingPart::Device)),
        }
    })
}

/// Loads the drivers; the names of those that are not available. The kernel's own `modprobe` is asked for
/// what the host does not have.
fn load_drivers(socket: RawFd, modules: &mut ModuleRequests) -> Result<Vec<&'static str>, Stop> {
    let mut unavailable = Vec::new();
    let absent = |name: &&str| !module_requests::is_loaded(name);
    for name in DRIVERS.into_iter().filter(absent) {
        if !modules.load(name)? {
            netlink::load_module_by_kernel(socket, name);
            unavailable.push(name);
        }
    }
    Ok(unavailable)
}

fn has_driver() -> bool {
    let found =
        |path: &[u8]| -> Sys<()> { file::stat_at(roots::SYS, &file::path(path)?, 0).map(drop) };
    found(b"bus/virtio/drivers/virtio_blk").is_ok()
}

fn not_ready(
    disk: &DiskConfig,
    lack: &MissingPart,
    devices: &[Device],
    unavailable: &[&str],
) -> WireError {
    if let (MissingPart::Size(size), Some(device)) = (lack, Device::find(disk, devices)) {
        let tried = format!(
            "waiting {} s for {} to have {} bytes; it has {size}",
            LIMIT.as_secs(),
            DiskName(disk, device),
            disk.size
        );
        return failure::os(tried, Errno(libc::ETIMEDOUT));
    }
    not_found(&disk.serial, devices, unavailable)
}

fn not_found(serial: &str, devices: &[Device], unavailable: &[&str]) -> WireError {
    let present: Vec<String> = devices
        .iter()
        .map(|device| format!("`{}` ({})", device.serial, device.name))
        .collect();
    let present = if present.is_empty() {
        "there are no disks".to_owned()
    } else {
        format!("there are: {}", present.join(", "))
    };
    let mut tried = format!(
        "waiting {} s for the disk `{serial}` ({present})",
        LIMIT.as_secs()
    );
    if !unavailable.is_empty() {
        let names = unavailable.join(", ");
        tried.push_str(&format!("; no kernel module {names} is available"));
    }
    failure::os(tried, Errno(libc::ENODEV))
}

#[cfg(test)]
mod tests {
    use super::super::devices::fake::FakeTree;
    use super::super::set::tests::disk;
    use super::*;

    #[test]
    fn a_disk_lacks_its_device_until_it_is_there_with_its_size() {
        let tree = FakeTree::new("provium-lacks");
        let sys = tree.open();
        let disks = [disk("data")];
        let lack = || {
            let devices = Device::list(sys.as_raw_fd()).unwrap();
            first_lack(sys.as_raw_fd(), &disks, &devices).map(|(_, lack)| lack)
        };
        assert_eq!(lack(), Some(MissingPart::Device));
        tree.add("vda", "other", 8);
        assert_eq!(lack(), Some(MissingPart::Device));
        tree.add("vda", "data", 16);
        assert_eq!(lack(), Some(MissingPart::Size(8192)));
        tree.add("vda", "data", 8);
        assert_eq!(lack(), None);
    }

    #[test]
    fn a_missing_disk_is_reported_with_those_that_there_are() {
        let device = |name: &str, serial: &str| Device {
            name: name.to_owned(),
            serial: serial.to_owned(),
        };
        let devices = [device("vda", "root"), device("vdb", "")];
        let error = not_ready(
            &disk("data"),
            &MissingPart::Device,
            &devices,
            &["virtio_blk"],
        );
        assert_eq!(
            error.message,
            "waiting 10 s for the disk `data` (there are: `root` (vda), `` (vdb)); no kernel module \
             virtio_blk is available"
        );
        assert_eq!(error.errno, libc::ENODEV);
        let error = not_ready(&disk("data"), &MissingPart::Device, &[], &[]);
        assert_eq!(
            error.message,
            "waiting 10 s for the disk `data` (there are no disks)"
        );
        let error = not_ready(&disk("root"), &MissingPart::Size(512), &devices, &[]);
        assert_eq!(
            error.message,
            "waiting 10 s for disk `root` (vda) to have 4096 bytes; it has 512"
        );
        assert_eq!(error.errno, libc::ETIMEDOUT);
    }
}
