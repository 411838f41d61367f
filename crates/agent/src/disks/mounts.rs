//! Mounting disks.

use super::devices::DiskName;
use crate::failure;
use crate::module_requests::{ModuleRequests, Stop};
use crate::roots;
use crate::sys::{Errno, Sys, block, file};
use provium_protocol::WireError;
use provium_protocol::op::DiskMount;
use std::collections::BTreeSet;
use std::os::fd::{AsRawFd, OwnedFd};

const PERM: u32 = 0o755;

/// What the kernel asks for when it does not have a file system.
pub(super) fn module_of(filesystem: &str) -> String {
    format!("fs-{filesystem}")
}

/// Mounts a disk where it is wanted, unless it is mounted there.
pub(super) fn mount(pair: &DiskName<'_>, mount: &DiskMount) -> Result<(), WireError> {
    let DiskMount {
        path, filesystem, ..
    } = mount;
    let folder = open_mount_point(path).map_err(|errno| {
        let tried = format!("creating the mount point {path} of {pair}: {errno}");
        failure::os(tried, errno)
    })?;
    if is_mounted(pair, &folder)? {
        return Ok(());
    }
    // A descriptor of the folder would hide what is mounted over it.
    drop(folder);
    let flags = if mount.read_only || pair.0.read_only {
        libc::MS_RDONLY
    } else {
        0
    };
    let known = file::read_at(roots::PROC, "filesystems").unwrap_or_default();
    if is_without_device(&known, filesystem) {
        let why = format!("{filesystem} is not a file system of disks, and would not use {pair}");
        return Err(failure::invalid(why));
    }
    let source = format!("/dev/{}", pair.1.name);
    let mounted = block::mount(&source, path, filesystem, flags);
    mounted.map_err(|errno| {
        let why = explanation(errno);
        let tried = format!("mounting {pair} at {path} as {filesystem}: {errno}{why}");
        failure::os(tried, errno)
    })
}

/// Opens the mount point, which is made if it is not there.
fn open_mount_point(path: &str) -> Sys<OwnedFd> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    match file::open_str(path, flags) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let ends = path.match_indices('/').map(|(at, _)| at).skip(1);
    for end in ends.chain([path.len()]) {
        match file::make_dir(&path.as_bytes()[..end], PERM) {
            // Also the answer for a folder of a file system that is read-only.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    file::open_str(path, flags)
}

/// Whether the disk is mounted at the folder, on top or below another mount.
fn is_mounted(pair: &DiskName<'_>, folder: &OwnedFd) -> Result<bool, WireError> {
    let tried = |errno| failure::os(format!("listing the mounts of {pair}"), errno);
    // The path without links, as the list of mounts has it.
    let link = format!("self/fd/{}", folder.as_raw_fd());
    let path = file::path(link.as_bytes()).and_then(|link| file::read_link_at(roots::PROC, &link));
    let path = path.map_err(tried)?;
    let mounts = file::read_at(roots::PROC, "self/mountinfo").map_err(tried)?;
    let number = pair.1.number(roots::SYS).unwrap_or_default();
    let source = format!("/dev/{}", pair.1.name);
    Ok(lists_mount(&mounts, &path, &number, &source))
}

/// Whether a list in the format of `/proc/self/mountinfo` (proc(5)) has a mount of a device. Some file
/// systems, such as btrfs, have device numbers of their own; these are found by what they were mounted from.
fn lists_mount(mounts: &[u8], path: &[u8], number: &str, source: &str) -> bool {
    mounts.split(|byte| *byte == b'\n').any(|line| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        // After a number of optional fields.
        let separator = fields.iter().position(|field| *field == b"-");
        let from = separator.and_then(|at| fields.get(at + 2));
        let is_of_device =
            fields.get(2) == Some(&number.as_bytes()) || from == Some(&source.as_bytes());
        is_of_device && fields.get(4).is_some_and(|point| unescaped(point) == path)
    })
}

/// Spaces, tabs, newlines and backslashes are octal numbers there.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, later)) = rest.split_first() {
        rest = later;
        let digits = later.first_chunk::<3>().filter(|_| byte == b'\\');
        let code = digits
            .and_then(|digits| str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                text.push(code);
                rest = &later[3..];
            }
            None => text.push(byte),
        }
    }
    text
}

/// Loads the modules of file systems that the kernel does not have. If the host does not have one either, the
/// kernel itself asks the guest's `modprobe` during the mount.
pub(super) fn load<'a>(
    filesystems: impl Iterator<Item = &'a str>,
    modules: &mut ModuleRequests,
) -> Result<(), Stop> {
    let wanted: BTreeSet<&str> = filesystems.collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let known = file::read_at(roots::PROC, "filesystems").unwrap_or_default();
    for filesystem in wanted {
        if !lists_filesystem(&known, filesystem) {
            modules.load(&module_of(filesystem))?;
        }
    }
    Ok(())
}

/// Whether a list in the format of `/proc/filesystems` has a file system: a name in each line, after a mark of
/// those that need no device.
fn lists_filesystem(known: &[u8], filesystem: &str) -> bool {
    let mut lines = known.split(|byte| *byte == b'\n');
    lines.any(|line| line.rsplit(|byte| *byte == b'\t').next() == Some(filesystem.as_bytes()))
}

/// Whether a list in the format of `/proc/filesystems` marks a file system as one that is on no device.
fn is_without_device(known: &[u8], filesystem: &str) -> bool {
    let marked = format!("nodev\t{filesystem}");
    let mut lines = known.split(|byte| *byte == b'\n');
    lines.any(|line| line == marked.as_bytes())
}

/// What is behind an error that does not say it.
fn explanation(errno: Errno) -> &'static str {
    match errno.0 {
        libc::ENODEV => {
            "; the kernel does not have that file system, and a module of it does not exist; name the file system \
             that the disk has, or a kernel that has it"
        }
        libc::EINVAL => {
            "; the disk does not have a valid file system of that type; make one on it, or name the type that \
             it has. One with the UUID of a file system that is mounted may be refused as well"
        }
        libc::EROFS => {
            "; its journal has to be replayed, which writes to the disk, and the disk is read-only"
        }
        libc::EBUSY => "; it is mounted elsewhere with other flags, or another program uses it",
        libc::ENOENT => "; its device node is not in /dev",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_by_device_number_or_source() {
        let mounts = b"22 1 0:2 / / rw - rootfs rootfs rw\n\
            30 22 254:0 / /data rw,relatime - ext4 /dev/vda rw\n\
            31 22 0:40 / /a\\040b rw shared:1 master:2 - btrfs /dev/vdb rw\n\
            32 22 0:41 / /data rw - tmpfs tmpfs rw\n";
        let has = |path: &str, number, source| lists_mount(mounts, path.as_bytes(), number, source);
        assert!(has("/data", "254:0", "/dev/vda"));
        assert!(has("/a b", "254:16", "/dev/vdb"));
        assert!(!has("/data", "254:16", "/dev/vdb"));
        assert!(!has("/a b", "254:0", "/dev/vda"));
        assert!(!has("/", "254:0", "/dev/vda"));
        assert!(!lists_mount(b"", b"/", "254:0", "/dev/vda"));
    }

    #[test]
    fn octal_numbers_of_mount_points_are_characters() {
        assert_eq!(unescaped(b"/a\\134b\\011"), b"/a\\b\t");
        assert_eq!(unescaped(b"/a\\9\\"), b"/a\\9\\");
    }

    #[test]
    fn file_systems_of_the_kernel_are_known() {
        let known = b"nodev\ttmpfs\n\text4\n\txfs\n";
        assert!(lists_filesystem(known, "ext4"));
        assert!(lists_filesystem(known, "tmpfs"));
        assert!(!lists_filesystem(known, "ext"));
        assert!(!lists_filesystem(known, "btrfs"));
        assert!(is_without_device(known, "tmpfs"));
        assert!(!is_without_device(known, "ext4"));
    }

    #[test]
    fn a_mount_point_is_made_with_the_folders_above_it() {
        let folder = std::env::temp_dir().join(format!("provium-point-{}", std::process::id()));
        let path = folder.join("a/b c");
        for _ in 0..2 {
            open_mount_point(path.to_str().unwrap()).unwrap();
            assert!(path.is_dir());
        }
        std::fs::write(folder.join("file"), "").unwrap();
        let file = folder.join("file").to_str().unwrap().to_owned();
        assert_eq!(open_mount_point(&file).unwrap_err(), Errno(libc::ENOTDIR));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
