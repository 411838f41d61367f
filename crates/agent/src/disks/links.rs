//! The links in `/dev/disk/by-id`, which name disks by their serial numbers as udev does.

use super::devices::Device;
use crate::sys::{Errno, Sys, file, tree};
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

const FOLDERS: [&str; 2] = ["disk", "disk/by-id"];
const PERM: u32 = 0o755;
/// Names of virtio disks begin with it.
const PREFIX: &[u8] = b"virtio-";
/// What links to virtio disks begin with.
const TARGET: &str = "../../vd";

/// Makes the links of all devices and their partitions, and removes those of others. `sys` and `dev` are
/// folders of sysfs and `/dev`.
pub(super) fn set(sys: RawFd, dev: RawFd, devices: &[Device]) -> Sys<()> {
    let mut wanted = wanted(sys, devices);
    let folder = match open(dev) {
        Ok(folder) => folder,
        Err(Errno::NOENT) if wanted.is_empty() => return Ok(()),
        Err(Errno::NOENT) => {
            make_folders(dev)?;
            open(dev)?
        }
        Err(errno) => return Err(errno),
    };
    for entry in file::list(open(dev)?)? {
        let has_prefix = entry.name.starts_with(PREFIX);
        let link = file::path(&entry.name)?;
        let target = match file::read_link_at(folder.as_raw_fd(), &link) {
            Ok(target) if has_prefix && target.starts_with(TARGET.as_bytes()) => target,
            // Not a link to a virtio disk, so it is another program's.
            Ok(_) | Err(_) => continue,
        };
        if wanted.get(&entry.name).map(Vec::as_slice) == Some(&target) {
            wanted.remove(&entry.name);
        } else {
            allow_gone(tree::unlink(folder.as_raw_fd(), &link))?;
        }
    }
    for (name, target) in wanted {
        make(&folder, &name, &target)?;
    }
    Ok(())
}

/// The links that there are to be, with their targets.
fn wanted(sys: RawFd, devices: &[Device]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut wanted = BTreeMap::new();
    for Device { name, serial } in devices {
        if serial.is_empty() || serial.contains(['/', ' ']) {
            continue;
        }
        let link = format!("virtio-{serial}");
        let target = format!("../../{name}");
        let device = Device {
            name: name.clone(),
            serial: serial.clone(),
        };
        for number in device.partitions(sys) {
            wanted.insert(
                format!("{link}-part{number}").into_bytes(),
                format!("{target}{number}").into_bytes(),
            );
        }
        wanted.insert(link.into_bytes(), target.into_bytes());
    }
    wanted
}

fn open(dev: RawFd) -> Sys<OwnedFd> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    file::open_at(dev, &file::path(FOLDERS[1].as_bytes())?, flags, 0)
}

fn make_folders(dev: RawFd) -> Sys<()> {
    for folder in FOLDERS {
        match tree::make_dir(dev, &file::path(folder.as_bytes())?, PERM) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Makes a link. One that udev has made in the meantime is replaced, as it may be older.
fn make(folder: &OwnedFd, name: &[u8], target: &[u8]) -> Sys<()> {
    let (name, target) = (file::path(name)?, file::path(target)?);
    let folder = folder.as_raw_fd();
    match tree::symlink(folder, &name, &target) {
        Err(Errno::EXIST) => {
            allow_gone(tree::unlink(folder, &name))?;
            tree::symlink(folder, &name, &target)
        }
        other => other,
    }
}

/// udev may remove a link that is removed here.
fn allow_gone(result: Sys<()>) -> Sys<()> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::devices::fake::FakeTree;
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// The links and their targets, sorted.
    fn links(tree: &FakeTree) -> Vec<(String, String)> {
        let folder = tree.path().join("disk/by-id");
        let mut found: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let target = fs::read_link(entry.path()).unwrap();
                let name = entry.file_name().into_string().unwrap();
                (name, target.to_str().unwrap().to_owned())
            })
            .collect();
        found.sort();
        found
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, target): &(&str, &str)| ((*name).to_owned(), (*target).to_owned());
        expected.iter().map(owned).collect()
    }

    #[test]
    fn links_follow_the_serial_numbers() {
        // One folder is both sysfs and `/dev`.
        let tree = FakeTree::new("provium-links");
        let root = tree.open();
        let update = || {
            let devices = Device::list(root.as_raw_fd()).unwrap();
            set(root.as_raw_fd(), root.as_raw_fd(), &devices).unwrap();
        };
        update();
        assert!(!tree.path().join("disk").exists());

        tree.add("vda", "root", 8);
        tree.add("vdb", "data", 8);
        tree.add("vdc", "", 8);
        tree.add_partition("vdb", 1);
        update();
        let first = pairs(&[
            ("virtio-data", "../../vdb"),
            ("virtio-data-part1", "../../vdb1"),
            ("virtio-root", "../../vda"),
        ]);
        assert_eq!(links(&tree), first);
        update();
        assert_eq!(links(&tree), first);

        // Links of other programs stay.
        let folder = tree.path().join("disk/by-id");
        symlink("../../sda", folder.join("ata-disk")).unwrap();
        symlink("../../dm-0", folder.join("virtio-mapped")).unwrap();
        // The same devices with other disks.
        tree.add("vda", "data", 8);
        tree.add("vdb", "new", 8);
        fs::remove_dir(tree.path().join("block/vdb/vdb1")).unwrap();
        update();
        assert_eq!(
            links(&tree),
            pairs(&[
                ("ata-disk", "../../sda"),
                ("virtio-data", "../../vda"),
                ("virtio-mapped", "../../dm-0"),
                ("virtio-new", "../../vdb"),
            ])
        );
        fs::remove_dir_all(tree.path().join("block/vda")).unwrap();
        update();
        assert_eq!(
            links(&tree),
            pairs(&[
                ("ata-disk", "../../sda"),
                ("virtio-mapped", "../../dm-0"),
                ("virtio-new", "../../vdb"),
            ])
        );
    }
}
