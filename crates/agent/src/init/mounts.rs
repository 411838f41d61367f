//! The file systems of a guest whose init is the agent, and those the agent keeps to itself.
//!
//! Folders that are missing are made. What is mounted already stays, and so does a `/tmp` or
//! `/run` that the image or the test's own files have put something into.

#![expect(unsafe_code, reason = "mount, umount2 and mknod have no function in std")]

use super::checked::{c_string, checked};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// One line of the list.
struct Mount {
    target: &'static str,
    kind: &'static str,
    flags: libc::c_ulong,
    options: &'static str,
    /// Only over a folder with nothing in it.
    only_if_empty: bool,
}

const QUIET: libc::c_ulong = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
const LOOSE: libc::c_ulong = libc::MS_NOSUID | libc::MS_NODEV;

/// What a guest without an init of its own gets, in this order.
const MOUNTS: &[Mount] = &[
    mount("/proc", "proc", QUIET, ""),
    mount("/sys", "sysfs", QUIET, ""),
    mount("/dev", "devtmpfs", libc::MS_NOSUID, "mode=0755"),
    mount("/dev/pts", "devpts", libc::MS_NOSUID | libc::MS_NOEXEC, "gid=5,mode=620,ptmxmode=666"),
    mount("/dev/shm", "tmpfs", LOOSE, "mode=1777"),
    over_nothing("/tmp", "tmpfs", LOOSE, "mode=1777"),
    over_nothing("/run", "tmpfs", LOOSE, "mode=0755"),
];

/// Links that programs expect in `/dev` and the kernel does not make.
const LINKS: &[(&str, &str)] = &[
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// Devices without which nothing works, for a kernel that has no devtmpfs.
const NODES: &[(&str, u32, u32, u32)] = &[
    ("/dev/null", 1, 3, 0o666),
    ("/dev/zero", 1, 5, 0o666),
    ("/dev/full", 1, 7, 0o666),
    ("/dev/random", 1, 8, 0o666),
    ("/dev/urandom", 1, 9, 0o666),
    ("/dev/kmsg", 1, 11, 0o644),
    ("/dev/tty", 5, 0, 0o666),
    ("/dev/console", 5, 1, 0o600),
    ("/dev/ptmx", 5, 2, 0o666),
    ("/dev/ttyS0", 4, 64, 0o600),
];

const fn mount(
    target: &'static str,
    kind: &'static str,
    flags: libc::c_ulong,
    options: &'static str,
) -> Mount {
    Mount { target, kind, flags, options, only_if_empty: false }
}

const fn over_nothing(
    target: &'static str,
    kind: &'static str,
    flags: libc::c_ulong,
    options: &'static str,
) -> Mount {
    Mount { target, kind, flags, options, only_if_empty: true }
}

/// Mounts the list. What fails is complained about and left out.
pub(super) fn mount_for_init(complaints: &mut Vec<String>) {
    for line in MOUNTS {
        match mount_one(line) {
            Ok(()) => {}
            Err(error) if line.kind == "devtmpfs" => {
                complaints.push(format!("mount {}: {error}; made the usual devices", line.kind));
                make_devices(complaints);
            }
            Err(error) => complaints.push(format!("mount {}: {error}", line.target)),
        }
    }
    for (link, target) in LINKS {
        // One that is there already is as good.
        let _ = std::os::unix::fs::symlink(target, link);
    }
    // The mode is that of the mount, or else whatever the image's folder has.
    let _ = fs::set_permissions("/tmp", fs::Permissions::from_mode(0o1777));
}

fn mount_one(line: &Mount) -> io::Result<()> {
    if line.only_if_empty && fs::read_dir(line.target).is_ok_and(|mut dir| dir.next().is_some()) {
        return Ok(());
    }
    match mount_at(Path::new(line.target), line.kind, line.flags, line.options) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(line.target)?;
            mount_at(Path::new(line.target), line.kind, line.flags, line.options)
        }
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(()),
        other => other,
    }
}

fn make_devices(complaints: &mut Vec<String>) {
    let tmpfs = mount_at(Path::new("/dev"), "tmpfs", libc::MS_NOSUID, "mode=0755");
    if let Err(error) = tmpfs {
        complaints.push(format!("mount /dev: {error}"));
    }
    for &(path, major, minor, perm) in NODES {
        let made = make_device(Path::new(path), libc::makedev(major, minor), perm);
        if let Err(error) = made
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            complaints.push(format!("make {path}: {error}"));
        }
    }
}

/// Makes the node of a character device.
pub(crate) fn make_device(path: &Path, device: libc::dev_t, perm: u32) -> io::Result<()> {
    let c_path = c_string(path)?;
    // SAFETY: the path is a C string that outlives the call.
    checked(unsafe { libc::mknod(c_path.as_ptr(), libc::S_IFCHR | perm, device) })?;
    // Whatever the umask.
    fs::set_permissions(path, fs::Permissions::from_mode(perm))
}

/// A file system under a path that only the agent uses, until [`Self::detach`].
pub(super) struct Scratch {
    path: &'static str,
}

impl Scratch {
    /// Mounts it.
    pub(super) fn mount(path: &'static str, kind: &str) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        mount_at(Path::new(path), kind, QUIET, "")?;
        Ok(Self { path })
    }

    /// Takes it out of the tree, and the folder with it. It lives on, for `openat`, behind the
    /// descriptor, where it is in nobody's way: not listed, not busy.
    pub(super) fn detach(self) -> io::Result<OwnedFd> {
        let root: File = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
            .open(self.path)?;
        self.unmount()?;
        Ok(root.into())
    }

    /// Unmounts it and removes the folder.
    pub(super) fn unmount(self) -> io::Result<()> {
        let c_path = c_string(self.path)?;
        // SAFETY: the path is a C string that outlives the call.
        checked(unsafe { libc::umount2(c_path.as_ptr(), libc::MNT_DETACH) })?;
        fs::remove_dir(self.path)
    }
}

fn mount_at(target: &Path, kind: &str, flags: libc::c_ulong, options: &str) -> io::Result<()> {
    let (target, kind, options) = (c_string(target)?, c_string(kind)?, c_string(options)?);
    // SAFETY: all pointers are to C strings that outlive the call. The source is only a label; the
    // type's name is what `mount(8)` puts there.
    let returned = unsafe {
        libc::mount(
            kind.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            flags,
            options.as_ptr().cast::<libc::c_void>(),
        )
    };
    checked(returned).map(drop)
}
