//! Carrying out a request.

use super::devices::{Device, DiskName};
use super::refresh::{PartitionSearch, Udev};
use super::wait::{self, DRIVERS};
use super::{links, mounts, refresh};
use crate::failure;
use crate::module_requests::{ModuleRequests, Stop};
use crate::roots;
use provium_protocol::op::{DiskConfig, DiskMount, DiskNode, SetDisks};
use provium_protocol::{Reply, WireError};

/// What a virtio disk can have as its serial number.
const SERIAL_LIMIT: usize = 20;
/// More than the slots of a machine.
const DISK_LIMIT: usize = 64;
/// `PATH_MAX`, with the zero at the end of a path.
const PATH_LIMIT: usize = 4096;
const FILESYSTEM_LIMIT: usize = 32;

/// The modules that a request may need.
pub(crate) fn modules(request: &SetDisks) -> Vec<String> {
    let mounts = request.disks.iter().filter_map(|disk| disk.mount.as_ref());
    let filesystems = mounts.map(|mount| mounts::module_of(&mount.filesystem));
    let mut names: Vec<String> = DRIVERS.map(str::to_owned).into_iter().collect();
    for name in filesystems {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Makes the guest's view of its disks what the request says. `known` is what the last request has found.
///
/// # Errors
/// An invalid request, before anything is changed; otherwise the first step that failed.
pub(crate) fn set(
    request: &SetDisks,
    known: &[DiskNode],
    modules: &mut ModuleRequests,
) -> Result<Reply, Stop> {
    let disks = &request.disks;
    check(disks).map_err(failure::invalid)?;
    let known_devices = Device::known(disks, known);
    let are_known = known_devices.is_some();
    let devices = wait::await_devices(disks, known_devices, modules)?;
    // The others were there when the template was made.
    for DiskName(_, device) in pairs(disks, &devices).filter(|pair| !pair.0.is_replaced) {
        device.await_probe(roots::SYS);
    }
    // Before anything is changed: a request that takes modules is carried out again, from its start.
    let mounts = disks.iter().filter_map(|disk| disk.mount.as_ref());
    mounts::load(mounts.map(|mount| &*mount.filesystem), modules)?;
    let known = are_known.then_some(known);
    Ok(bring_up(disks, &devices, known, Udev::find())?)
}

/// Carries out a request that waits for nothing: about known devices that have their sizes, without mounts and
/// searches for partitions. `None` for any other, and if it fails: [`set`] is to carry it out then.
pub(crate) fn set_at_once(request: &SetDisks, known: &[DiskNode]) -> Option<Reply> {
    let disks = &request.disks;
    check(disks).ok()?;
    let devices = Device::known(disks, known)?;
    if !disks.iter().all(is_immediate) || Udev::find() == Udev::Runs {
        return None;
    }
    if !wait::are_ready(disks, &devices) {
        return None;
    }
    bring_up(disks, &devices, Some(known), Udev::Absent).ok()
}

/// Has the guest use disks whose devices are there: empty caches for replaced ones, links, mounts. `known`: what the
/// last request has found, if the devices are those.
fn bring_up(
    disks: &[DiskConfig],
    devices: &[Device],
    known: Option<&[DiskNode]>,
    udev: Udev,
) -> Result<Reply, WireError> {
    // The last request has made those of known devices.
    let mut are_linked =
        known.is_some_and(|known| devices.iter().all(|device| device.is_one_of(known)));
    for pair in pairs(disks, devices).filter(|pair| pair.0.is_replaced) {
        let has_partitions = known.is_none() && !pair.1.partitions(roots::SYS).is_empty();
        let search = refresh::refresh(&pair, has_partitions, udev)?;
        are_linked &= search == PartitionSearch::Unnecessary;
    }
    if !are_linked {
        links::set(roots::SYS, roots::DEV, devices)
            .map_err(|errno| failure::os("making the links in /dev/disk/by-id", errno))?;
    }
    for pair in pairs(disks, devices) {
        if let Some(mount) = &pair.0.mount {
            mounts::mount(&pair, mount)?;
        }
    }
    // At the end, since udev would compete for the CPU with the above.
    if udev == Udev::Runs {
        for pair in pairs(disks, devices).filter(|pair| pair.0.is_replaced) {
            refresh::trigger_udev(&pair)?;
        }
    }
    let nodes = pairs(disks, devices).map(|DiskName(disk, device)| DiskNode {
        serial: disk.serial.clone(),
        name: device.name.clone(),
    });
    Ok(Reply::Disks(nodes.collect()))
}

/// The disks with their devices, which are all there.
fn pairs<'a>(disks: &'a [DiskConfig], devices: &'a [Device]) -> impl Iterator<Item = DiskName<'a>> {
    disks
        .iter()
        .filter_map(|disk| Device::find(disk, devices).map(|device| DiskName(disk, device)))
}

/// Whether nothing about the disk takes a command of its device. Its caches are empty: only the host has used it.
fn is_immediate(disk: &DiskConfig) -> bool {
    disk.is_replaced && !disk.may_have_partitions && disk.mount.is_none()
}

/// The first mistake in the request.
fn check(disks: &[DiskConfig]) -> Result<(), String> {
    if disks.len() > DISK_LIMIT {
        return Err(format!("more than {DISK_LIMIT} disks"));
    }
    for (index, disk) in disks.iter().enumerate() {
        let serial = &disk.serial;
        if !(1..=SERIAL_LIMIT).contains(&serial.len()) || !is_plain(serial) {
            return Err(format!(
                "`{serial}` is not a serial number of 1 to {SERIAL_LIMIT} of the characters A-Z, a-z, \
                 0-9, `_`, `.` and `-`"
            ));
        }
        let others = &disks[..index];
        if others.iter().any(|other| other.serial == *serial) {
            return Err(format!("two disks have the serial number `{serial}`"));
        }
        if disk.size == 0 || disk.size % 512 != 0 {
            let size = disk.size;
            return Err(format!(
                "the size of disk `{serial}`, {size} bytes, is not a multiple of 512"
            ));
        }
        if let Some(mount) = &disk.mount {
            check_mount(mount)?;
            let mut mounts = others.iter().filter_map(|other| other.mount.as_ref());
            if mounts.any(|other| other.path == mount.path) {
                return Err(format!("two disks are mounted at `{}`", mount.path));
            }
        }
    }
    Ok(())
}

fn check_mount(mount: &DiskMount) -> Result<(), String> {
    let path = &mount.path;
    let is_mountable = path.starts_with('/')
        && path.len() < PATH_LIMIT
        && !path.contains('\0')
        && path.bytes().any(|byte| byte != b'/');
    if !is_mountable {
        return Err(format!("`{path}` is not an absolute path of a mount point"));
    }
    let name = &mount.filesystem;
    if !(1..=FILESYSTEM_LIMIT).contains(&name.len()) || !is_plain(name) {
        return Err(format!("`{name}` is not the name of a file system"));
    }
    Ok(())
}

fn is_plain(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    text.bytes().all(is_plain)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A disk of 4096 bytes.
    pub(in crate::disks) fn disk(serial: &str) -> DiskConfig {
        DiskConfig {
            serial: serial.to_owned(),
            size: 4096,
            read_only: false,
            is_replaced: false,
            may_have_partitions: false,
            known_as: None,
            mount: None,
        }
    }

    fn mounted(serial: &str, path: &str, filesystem: &str) -> DiskConfig {
        DiskConfig {
            mount: Some(DiskMount {
                path: path.to_owned(),
                filesystem: filesystem.to_owned(),
                read_only: false,
            }),
            ..disk(serial)
        }
    }

    #[test]
    fn a_request_needs_the_drivers_and_each_file_system_once() {
        let request = SetDisks {
            disks: vec![
                disk("a"),
                mounted("b", "/b", "ext4"),
                mounted("c", "/c", "xfs"),
                mounted("d", "/d", "ext4"),
            ],
        };
        let expected = ["virtio_pci", "virtio_blk", "fs-ext4", "fs-xfs"];
        assert_eq!(modules(&request), expected);
    }

    #[test]
    fn only_a_request_without_mounts_and_partitions_is_immediate() {
        let replaced = DiskConfig {
            is_replaced: true,
            ..disk("a")
        };
        assert!(is_immediate(&replaced));
        // Its driver may still be probing.
        assert!(!is_immediate(&disk("a")));
        let partitioned = DiskConfig {
            may_have_partitions: true,
            ..replaced
        };
        assert!(!is_immediate(&partitioned));
        let mounted = DiskConfig {
            is_replaced: true,
            ..mounted("a", "/a", "ext4")
        };
        assert!(!is_immediate(&mounted));
    }

    #[test]
    fn mistakes_are_found_before_anything_is_changed() {
        let sized = |size| DiskConfig { size, ..disk("a") };
        for (disks, said) in [
            (vec![disk("")], "serial number of 1 to 20"),
            (
                vec![disk("123456789012345678901")],
                "serial number of 1 to 20",
            ),
            (vec![disk("a/b")], "serial number of 1 to 20"),
            (
                vec![disk("a"), disk("a")],
                "two disks have the serial number",
            ),
            (vec![sized(0)], "multiple of 512"),
            (vec![sized(513)], "multiple of 512"),
            (vec![mounted("a", "data", "ext4")], "absolute path"),
            (vec![mounted("a", "//", "ext4")], "absolute path"),
            (vec![mounted("a", "/a\0", "ext4")], "absolute path"),
            (vec![mounted("a", "/a", "")], "file system"),
            (vec![mounted("a", "/a", "../x")], "file system"),
            (
                vec![mounted("a", "/a", "ext4"), mounted("b", "/a", "ext4")],
                "mounted at",
            ),
            (
                (0..65).map(|number| disk(&number.to_string())).collect(),
                "more than 64",
            ),
        ] {
            let error = check(&disks).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        let all = [
            disk("12345678901234567890"),
            mounted("A-z_0.9", "/a b", "btrfs"),
            disk("c"),
        ];
        assert_eq!(check(&all), Ok(()));
    }
}
