//! Drops what the guest has cached of a disk whose content was replaced.

use super::devices::DiskName;
use crate::failure;
use crate::roots;
use crate::sys::{Errno, block, detached, fd, file};
use provium_protocol::WireError;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Where udev listens while it runs.
const UDEV_SOCKET: &[u8] = b"/run/udev/control";
/// How long udev may look at a device. It reads a few sectors.
const LIMIT: Duration = Duration::from_secs(10);
/// No event comes when a lock is given back.
const LOCK_INTERVAL: Duration = Duration::from_millis(5);

/// Whether udev runs in the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Udev {
    Runs,
    Absent,
}

impl Udev {
    pub(super) fn find() -> Self {
        match file::stat(UDEV_SOCKET) {
            Ok(_) => Self::Runs,
            Err(_) => Self::Absent,
        }
    }
}

/// Whether the kernel was made to read a partition table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PartitionSearch {
    Made,
    Unnecessary,
}

/// Drops what is cached of a disk, and has the kernel read its partition table, if it can have one. `has_partitions`
/// is what the guest has seen of it so far.
pub(super) fn refresh(
    pair: &DiskName<'_>,
    has_partitions: bool,
    udev: Udev,
) -> Result<PartitionSearch, WireError> {
    let tried = |what: &str| {
        let text = format!("{what} {pair}");
        move |errno| failure::os(explained(&text, errno), errno)
    };
    // Closing it gives the lock back.
    let node = open(&pair.1.name).map_err(tried("opening"))?;
    if udev == Udev::Runs {
        lock(&node).map_err(tried("waiting for udev to release"))?;
    }
    block::flush_buffers(node.as_raw_fd()).map_err(tried("dropping the cached blocks of"))?;
    if !has_partitions && !pair.0.may_have_partitions {
        return Ok(PartitionSearch::Unnecessary);
    }
    match block::read_partitions(node.as_raw_fd()) {
        // What cannot be read has no partitions, as when the driver finds the disk. Such a disk can be what a
        // test wants.
        Ok(()) | Err(Errno::IO) => Ok(PartitionSearch::Made),
        Err(errno) => Err(tried("reading the partition table of")(errno)),
    }
}

/// Has udev look at a disk again.
pub(super) fn trigger_udev(pair: &DiskName<'_>) -> Result<(), WireError> {
    let path = format!("block/{}/uevent", pair.1.name);
    let triggered = file::write_at(roots::SYS, &path, b"change");
    triggered.map_err(|errno| failure::os(format!("having udev look at {pair}"), errno))
}

/// Opens a device that nothing else of the guest has mounted or opened exclusively.
fn open(name: &str) -> Result<OwnedFd, Errno> {
    let flags = libc::O_RDONLY | libc::O_EXCL | libc::O_DIRECT;
    file::open_at(roots::DEV, &file::path(name.as_bytes())?, flags, 0)
}

/// Keeps udev from opening the device and its partitions, as `systemd` documents it for programs that
/// change partition tables.
fn lock(node: &OwnedFd) -> Result<(), Errno> {
    let deadline = Instant::now() + LIMIT;
    loop {
        match detached::lock(node) {
            Err(Errno(libc::EBUSY)) if Instant::now() < deadline => {
                let _ = fd::poll(&mut [], Some(LOCK_INTERVAL));
            }
            other => return other,
        }
    }
}

fn explained(tried: &str, errno: Errno) -> String {
    match errno {
        Errno(libc::EBUSY) => format!(
            "{tried}, which is in use: unmount it, or end the program that uses it, before its content is \
             replaced"
        ),
        _ => tried.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::devices::Device;
    use super::super::set::tests::disk;
    use super::*;

    #[test]
    fn a_disk_that_is_not_there_is_named_with_the_step() {
        let device = Device {
            name: "vd-none".to_owned(),
            serial: "data".to_owned(),
        };
        let disk = disk("data");
        let error = refresh(&DiskName(&disk, &device), false, Udev::Absent).unwrap_err();
        assert_eq!(error.message, "opening disk `data` (vd-none)");
    }

    #[test]
    fn a_busy_disk_is_explained() {
        let said = explained("opening disk `data` (vda)", Errno(libc::EBUSY));
        assert!(said.contains("vda), which is in use: unmount it"), "{said}");
        assert_eq!(explained("opening", Errno::NOENT), "opening");
    }

    #[test]
    fn a_locked_device_is_waited_for() {
        let path = std::env::temp_dir().join(format!("provium-lock-{}", std::process::id()));
        std::fs::write(&path, "").unwrap();
        let open = || file::open_str(path.to_str().unwrap(), libc::O_RDONLY).unwrap();
        let udev = open();
        detached::lock(&udev).unwrap();
        let waiting = std::thread::spawn({
            let node = open();
            move || lock(&node)
        });
        drop(udev);
        assert_eq!(waiting.join().unwrap(), Ok(()));
        std::fs::remove_file(&path).unwrap();
    }
}
