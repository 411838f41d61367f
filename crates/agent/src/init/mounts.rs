//! Mounts: private ones for the agent, and the usual ones where the agent is the init.

use crate::roots;
use crate::sys::{Errno, Sys, block, boot, detached, file};
use std::ffi::CStr;
use std::os::fd::OwnedFd;

/// Where the agent's own mounts are for a moment, on a kernel that cannot do without a place.
const STEP: &str = "/.provium/mnt";

/// Opens `/proc`, `/dev` and `/sys` of the agent's own, which an init does not find in its tree.
pub(super) fn mount_own() -> Sys<()> {
    if let Ok(proc) = detached::mount_detached(c"proc") {
        let own = |kind| detached::mount_detached(kind);
        return roots::install(Ok(proc), own(c"devtmpfs"), own(c"sysfs"));
    }
    let _ = file::make_dir(b"/.provium", 0o755);
    let _ = file::make_dir(STEP.as_bytes(), 0o700);
    let result = roots::install(hidden(c"proc"), hidden(c"devtmpfs"), hidden(c"sysfs"));
    let _ = file::remove(STEP.as_bytes());
    result
}

/// As [`mount_own`], for a process that must not change the tree: where the kernel cannot mount
/// without a place, what is mounted at the usual places serves.
pub(super) fn open_own() -> Sys<()> {
    let own = |kind, usual| {
        detached::mount_detached(kind)
            .or_else(|_| file::open_str(usual, libc::O_PATH | libc::O_DIRECTORY))
    };
    roots::install(
        own(c"proc", "/proc"),
        own(c"devtmpfs", "/dev"),
        own(c"sysfs", "/sys"),
    )
}

fn hidden(kind: &CStr) -> Sys<OwnedFd> {
    boot::mount(kind, STEP, 0, c"")?;
    let folder = file::open_str(STEP, libc::O_RDONLY | libc::O_DIRECTORY);
    boot::detach(STEP)?;
    folder
}

struct StandardMount {
    kind: &'static CStr,
    target: &'static str,
    flags: u64,
    options: &'static CStr,
    /// Only over a folder with nothing in it.
    over_nothing: bool,
}

const fn usual(
    kind: &'static CStr,
    target: &'static str,
    flags: u64,
    options: &'static CStr,
) -> StandardMount {
    StandardMount {
        kind,
        target,
        flags,
        options,
        over_nothing: false,
    }
}

const PLAIN: u64 = libc::MS_NOSUID | libc::MS_NODEV;
const NO_PROGRAMS: u64 = PLAIN | libc::MS_NOEXEC;
const TERMINALS: u64 = libc::MS_NOSUID | libc::MS_NOEXEC;

const DEVICES: &str = "/dev";

const USUAL: [StandardMount; 7] = [
    usual(c"proc", "/proc", NO_PROGRAMS, c""),
    usual(c"sysfs", "/sys", NO_PROGRAMS, c""),
    usual(c"devtmpfs", DEVICES, libc::MS_NOSUID, c"mode=755"),
    usual(
        c"devpts",
        "/dev/pts",
        TERMINALS,
        c"mode=620,gid=5,ptmxmode=666",
    ),
    usual(c"tmpfs", "/dev/shm", PLAIN, c"mode=1777"),
    // What the image or the test has put there must not disappear.
    StandardMount {
        over_nothing: true,
        ..usual(c"tmpfs", "/tmp", PLAIN, c"mode=1777")
    },
    StandardMount {
        over_nothing: true,
        ..usual(c"tmpfs", "/run", PLAIN, c"mode=755")
    },
];

/// Links that programs expect in `/dev`.
const LINKS: [(&str, &str); 4] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// Mounts what programs expect and is not mounted yet; returns what failed.
pub(super) fn mount_usual() -> Vec<String> {
    let mut warnings = Vec::new();
    for usual in &USUAL {
        if is_mount_point(usual.target) {
            continue;
        }
        match mount(usual) {
            Ok(()) | Err(Errno(libc::EBUSY)) => {}
            Err(errno) => warnings.push(format!("mounting {}: {errno}", usual.target)),
        }
    }
    for (name, target) in LINKS {
        let _ = file::symlink(target.as_bytes(), name.as_bytes());
    }
    warnings
}

/// Mounts `/dev`.
pub(super) fn mount_devices() -> Sys<()> {
    match USUAL.iter().find(|usual| usual.target == DEVICES) {
        Some(usual) => mount_at(usual, DEVICES),
        None => Ok(()),
    }
}

/// Mounts below a new root what an init finds there after the initial RAM file system of a distribution;
/// returns what failed. `/dev` is mounted already, and moves there.
pub(super) fn mount_early(root: &str) -> Vec<String> {
    const EARLY: [&str; 4] = ["/proc", "/sys", DEVICES, "/run"];
    let early = USUAL.iter().filter(|one| EARLY.contains(&one.target));
    let failures = early.filter_map(|usual| {
        let target = format!("{root}{}", usual.target);
        let mounted = if usual.target == DEVICES {
            match file::make_dir(target.as_bytes(), 0o755) {
                Ok(()) | Err(Errno::EXIST) => block::move_mount(DEVICES, &target),
                Err(errno) => Err(errno),
            }
        } else {
            mount_at(usual, &target)
        };
        let failed = |errno| format!("mounting {}: {errno}", usual.target);
        mounted.err().map(failed)
    });
    failures.collect()
}

/// Mounts it at a folder, which is made if it is not there.
fn mount_at(usual: &StandardMount, target: &str) -> Sys<()> {
    let mount = || boot::mount(usual.kind, target, usual.flags, usual.options);
    match mount() {
        Err(Errno::NOENT) => {
            file::make_dir(target.as_bytes(), 0o755)?;
            mount()
        }
        other => other,
    }
}

fn mount(usual: &StandardMount) -> Sys<()> {
    let StandardMount {
        target,
        over_nothing,
        ..
    } = *usual;
    if over_nothing && holds_something(target) {
        // Programs expect these permissions, whatever made the folder.
        return if target == "/tmp" {
            file::chmod(target.as_bytes(), 0o1777)
        } else {
            Ok(())
        };
    }
    mount_at(usual, target)
}

/// Whether something is mounted there: it lies on another device than the folder above it.
fn is_mount_point(folder: &str) -> bool {
    let above = format!("{folder}/..");
    match (file::stat(folder.as_bytes()), file::stat(above.as_bytes())) {
        (Ok(here), Ok(above)) => !here.is_on_device_of(&above),
        _ => false,
    }
}

fn holds_something(folder: &str) -> bool {
    let folder = file::open_str(folder, libc::O_RDONLY | libc::O_DIRECTORY);
    folder
        .and_then(file::list)
        .is_ok_and(|entries| !entries.is_empty())
}
