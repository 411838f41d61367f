//! The virtio disks that the kernel has.

use crate::sys::{Sys, fd, file};
use provium_protocol::op::{DiskConfig, DiskNode};
use std::fmt;
use std::os::fd::{AsRawFd, RawFd};

/// Sectors of `/sys/block/*/size`, whatever the sectors of the device are.
const SECTOR: u64 = 512;

/// A disk of the driver `virtio_blk`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Device {
    /// Its name in `/dev`, such as `vda`.
    pub(super) name: String,
    /// Empty if it has none.
    pub(super) serial: String,
}

impl Device {
    /// Those that there are now, sorted by name. `sys` is a folder of sysfs.
    pub(super) fn list(sys: RawFd) -> Sys<Vec<Self>> {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        let entries = file::list(file::open_at(sys, c"block", flags, 0)?)?;
        let names = entries.into_iter().map(|entry| entry.name);
        let devices = names
            .filter(|name| name.starts_with(b"vd"))
            .filter_map(|name| {
                let name = String::from_utf8(name).ok()?;
                // One that has gone in the meantime has no such file.
                let serial = read(sys, &name, "serial")?;
                Some(Self { name, serial })
            });
        Ok(devices.collect())
    }

    /// The devices of all disks, if each is one of `known` and has another serial number now, or the same; see
    /// [`DiskConfig::known_as`].
    pub(super) fn known(disks: &[DiskConfig], known: &[DiskNode]) -> Option<Vec<Self>> {
        let device = |disk: &DiskConfig| {
            let serial = disk.known_as.as_ref()?;
            let node = known.iter().find(|node| node.serial == *serial)?;
            Some(Self {
                name: node.name.clone(),
                serial: disk.serial.clone(),
            })
        };
        let devices: Vec<Self> = disks.iter().map(device).collect::<Option<_>>()?;
        (devices.len() == known.len()).then_some(devices)
    }

    /// Whether the host has this name for this serial number.
    pub(super) fn is_one_of(&self, nodes: &[DiskNode]) -> bool {
        let mut nodes = nodes.iter();
        nodes.any(|node| node.serial == self.serial && node.name == self.name)
    }

    /// The device of a disk.
    pub(super) fn find<'a>(config: &DiskConfig, devices: &'a [Self]) -> Option<&'a Self> {
        devices.iter().find(|device| device.serial == config.serial)
    }

    /// Bytes.
    pub(super) fn size(&self, sys: RawFd) -> Option<u64> {
        let sectors: u64 = read(sys, &self.name, "size")?.parse().ok()?;
        sectors.checked_mul(SECTOR)
    }

    /// Waits until its driver has read the partition table of a disk that is being plugged in: the device is listed
    /// before that. The driver core holds the lock of the PCI device meanwhile.
    pub(super) fn await_probe(&self, sys: RawFd) {
        let open = |name: &str, flags| {
            let path = format!("block/{}/device/../{name}", self.name);
            file::open_at(sys, &file::path(path.as_bytes())?, flags, 0)
        };
        // Writing takes the lock, and this changes nothing.
        let write_same = || {
            let control = open("power/control", libc::O_RDWR)?;
            let mut value = [0; 64];
            let got = fd::read(control.as_raw_fd(), &mut value)?;
            fd::write(control.as_raw_fd(), &value[..got])
        };
        // For kernels without power management, of which Linux 4.9 to 6.12 take it for reading this.
        let read_other = |_| {
            let driver = open("driver_override", libc::O_RDONLY)?;
            fd::read(driver.as_raw_fd(), &mut [0; 64])
        };
        // A device of another bus has neither, and is not plugged in by the host.
        let _ = write_same().or_else(read_other);
    }

    /// Its number as the kernel writes it: `254:0`.
    pub(super) fn number(&self, sys: RawFd) -> Option<String> {
        read(sys, &self.name, "dev")
    }

    /// The numbers of its partitions.
    pub(super) fn partitions(&self, sys: RawFd) -> Vec<u32> {
        let folder = || {
            let path = file::path(format!("block/{}", self.name).as_bytes())?;
            file::list(file::open_at(
                sys,
                &path,
                libc::O_RDONLY | libc::O_DIRECTORY,
                0,
            )?)
        };
        let entries = folder().unwrap_or_default();
        let names = entries
            .iter()
            .filter_map(|entry| str::from_utf8(&entry.name).ok());
        names
            .filter_map(|name| name.strip_prefix(self.name.as_str())?.parse().ok())
            .collect()
    }
}

/// A disk as messages name it.
pub(super) struct DiskName<'a>(pub(super) &'a DiskConfig, pub(super) &'a Device);

impl fmt::Display for DiskName<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "disk `{}` ({})", self.0.serial, self.1.name)
    }
}

fn read(sys: RawFd, device: &str, name: &str) -> Option<String> {
    let path = file::path(format!("block/{device}/{name}").as_bytes()).ok()?;
    let file = file::open_at(sys, &path, libc::O_RDONLY, 0).ok()?;
    // One read is all of it: these files are shorter than a page.
    let mut content = [0; 64];
    let got = fd::read(file.as_raw_fd(), &mut content).ok()?;
    let text = str::from_utf8(&content[..got]).ok()?;
    Some(text.trim_end_matches(['\n', '\0']).to_owned())
}

#[cfg(test)]
pub(super) mod fake {
    //! A folder with what sysfs has of disks.

    use crate::sys::file;
    use std::fs;
    use std::os::fd::OwnedFd;
    use std::path::{Path, PathBuf};

    pub(in crate::disks) struct FakeTree(PathBuf);

    impl FakeTree {
        pub(in crate::disks) fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
            fs::create_dir_all(path.join("block")).unwrap();
            Self(path)
        }

        pub(in crate::disks) fn path(&self) -> &Path {
            &self.0
        }

        pub(in crate::disks) fn open(&self) -> OwnedFd {
            let flags = libc::O_PATH | libc::O_DIRECTORY;
            file::open_str(self.0.to_str().unwrap(), flags).unwrap()
        }

        pub(in crate::disks) fn add(&self, name: &str, serial: &str, sectors: u64) {
            let folder = self.0.join("block").join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("serial"), serial).unwrap();
            fs::write(folder.join("size"), format!("{sectors}\n")).unwrap();
            fs::write(folder.join("dev"), "254:0\n").unwrap();
        }

        pub(in crate::disks) fn add_partition(&self, name: &str, number: u32) {
            let folder = self.0.join("block").join(name);
            fs::create_dir_all(folder.join(format!("{name}{number}"))).unwrap();
        }
    }

    impl Drop for FakeTree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::set::tests::disk;
    use super::fake::FakeTree;
    use super::*;

    #[test]
    fn known_devices_are_found_by_their_earlier_serials() {
        let node = |serial: &str, name: &str| DiskNode {
            serial: serial.to_owned(),
            name: name.to_owned(),
        };
        let known = [node("data", "vda"), node("logs", "vdb")];
        let of = |serial: &str, known_as: Option<&str>| DiskConfig {
            known_as: known_as.map(str::to_owned),
            ..disk(serial)
        };
        // The serials are exchanged.
        let disks = [of("logs", Some("data")), of("data", Some("logs"))];
        let devices = Device::known(&disks, &known).unwrap();
        let names = devices.iter().map(|one| (&one.serial[..], &one.name[..]));
        assert_eq!(
            names.collect::<Vec<_>>(),
            [("logs", "vda"), ("data", "vdb")]
        );
        assert!(!devices[0].is_one_of(&known));
        let same = [of("data", Some("data")), of("logs", Some("logs"))];
        let devices = Device::known(&same, &known).unwrap();
        assert!(devices.iter().all(|device| device.is_one_of(&known)));
        // All or none.
        let new = [of("data", Some("data")), of("logs", None)];
        assert_eq!(Device::known(&new, &known), None);
        let other = [of("data", Some("data")), of("logs", Some("root"))];
        assert_eq!(Device::known(&other, &known), None);
        assert_eq!(Device::known(&same[..1], &known), None);
        assert_eq!(Device::known(&same, &[]), None);
    }

    #[test]
    fn virtio_disks_are_read_from_sysfs() {
        let tree = FakeTree::new("provium-devices");
        tree.add("vdb", "data", 8);
        tree.add("vda", "", 0);
        tree.add("sda", "other", 8);
        tree.add_partition("vdb", 1);
        tree.add_partition("vdb", 12);
        std::fs::create_dir_all(tree.path().join("block/vdb/queue")).unwrap();
        std::fs::create_dir_all(tree.path().join("block/vdc")).unwrap();
        let sys = tree.open();
        let devices = Device::list(sys.as_raw_fd()).unwrap();
        let found = devices.iter().map(|one| (&one.name[..], &one.serial[..]));
        assert_eq!(found.collect::<Vec<_>>(), [("vda", ""), ("vdb", "data")]);
        let second = &devices[1];
        assert_eq!(second.size(sys.as_raw_fd()), Some(4096));
        assert_eq!(second.number(sys.as_raw_fd()).as_deref(), Some("254:0"));
        assert_eq!(second.partitions(sys.as_raw_fd()), [1, 12]);
        assert_eq!(devices[0].partitions(sys.as_raw_fd()), []);
    }
}
