//! Mounts: private ones for the agent, and the usual ones where the agent is the init.

use crate::roots;
use crate::sys::{Errno, Sys, boot, file};
use std::ffi::CStr;
use std::os::fd::OwnedFd;

/// Where the agent's own mounts stand for a moment.
const STEP: &str = "/.provium/mnt";

/// Opens `/proc`, `/dev` and `/sys` of the agent's own and takes them off the tree again, so that
/// an init finds nothing mounted that it does not expect.
pub(super) fn mount_own() -> Sys<()> {
    let _ = file::make_dir(b"/.provium", 0o755);
    let _ = file::make_dir(STEP.as_bytes(), 0o700);
    let result = roots::install(hidden(c"proc"), hidden(c"devtmpfs"), hidden(c"sysfs"));
    let _ = file::remove(STEP.as_bytes());
    result
}

fn hidden(kind: &CStr) -> Sys<OwnedFd> {
    boot::mount(kind, STEP, 0, c"")?;
    let folder = file::open_str(STEP, libc::O_RDONLY | libc::O_DIRECTORY);
    boot::detach(STEP)?;
    folder
}

struct Usual {
    kind: &'static CStr,
    target: &'static str,
    flags: u64,
    options: &'static CStr,
}

const NO_PROGRAMS: u64 = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;

const USUAL: [Usual; 7] = [
    Usual { kind: c"proc", target: "/proc", flags: NO_PROGRAMS, options: c"" },
    Usual { kind: c"sysfs", target: "/sys", flags: NO_PROGRAMS, options: c"" },
    Usual { kind: c"devtmpfs", target: "/dev", flags: libc::MS_NOSUID, options: c"mode=755" },
    Usual {
        kind: c"devpts",
        target: "/dev/pts",
        flags: libc::MS_NOSUID | libc::MS_NOEXEC,
        options: c"mode=620,gid=5,ptmxmode=666",
    },
    Usual {
        kind: c"tmpfs",
        target: "/dev/shm",
        flags: libc::MS_NOSUID | libc::MS_NODEV,
        options: c"mode=1777",
    },
    Usual {
        kind: c"tmpfs",
        target: "/tmp",
        flags: libc::MS_NOSUID | libc::MS_NODEV,
        options: c"mode=1777",
    },
    Usual {
        kind: c"tmpfs",
        target: "/run",
        flags: libc::MS_NOSUID | libc::MS_NODEV,
        options: c"mode=755",
    },
];

/// Links that programs expect in `/dev`.
const LINKS: [(&str, &str); 4] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// Mounts what programs expect; says what failed.
pub(super) fn mount_usual() -> Vec<String> {
    let mut complaints = Vec::new();
    for Usual { kind, target, flags, options } in USUAL {
        let _ = file::make_dir(target.as_bytes(), 0o755);
        match boot::mount(kind, target, flags, options) {
            // There already.
            Ok(()) | Err(Errno(libc::EBUSY)) => {}
            Err(Errno(errno)) => complaints.push(format!("mounting {target}: errno {errno}")),
        }
    }
    for (name, target) in LINKS {
        let _ = file::symlink(target.as_bytes(), name.as_bytes());
    }
    complaints
}
