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
    /// Only over a folder with nothing in it.
    over_nothing: bool,
}

const fn usual(
    kind: &'static CStr,
    target: &'static str,
    flags: u64,
    options: &'static CStr,
) -> Usual {
    Usual {
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

const USUAL: [Usual; 7] = [
    usual(c"proc", "/proc", NO_PROGRAMS, c""),
    usual(c"sysfs", "/sys", NO_PROGRAMS, c""),
    usual(c"devtmpfs", "/dev", libc::MS_NOSUID, c"mode=755"),
    usual(
        c"devpts",
        "/dev/pts",
        TERMINALS,
        c"mode=620,gid=5,ptmxmode=666",
    ),
    usual(c"tmpfs", "/dev/shm", PLAIN, c"mode=1777"),
    // What the image or the test has put there must not disappear.
    Usual {
        over_nothing: true,
        ..usual(c"tmpfs", "/tmp", PLAIN, c"mode=1777")
    },
    Usual {
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

/// Mounts what programs expect; says what failed.
pub(super) fn mount_usual() -> Vec<String> {
    let mut complaints = Vec::new();
    for usual in &USUAL {
        match mount(usual) {
            // There already.
            Ok(()) | Err(Errno(libc::EBUSY)) => {}
            Err(Errno(errno)) => {
                complaints.push(format!("mounting {}: errno {errno}", usual.target));
            }
        }
    }
    for (name, target) in LINKS {
        let _ = file::symlink(target.as_bytes(), name.as_bytes());
    }
    complaints
}

fn mount(usual: &Usual) -> Sys<()> {
    let Usual {
        kind,
        target,
        flags,
        options,
        over_nothing,
    } = *usual;
    if over_nothing && holds_something(target) {
        // As whoever uses it expects it, whatever made the folder.
        return if target == "/tmp" {
            file::chmod(target.as_bytes(), 0o1777)
        } else {
            Ok(())
        };
    }
    match boot::mount(kind, target, flags, options) {
        Err(Errno::NOENT) => {
            file::make_dir(target.as_bytes(), 0o755)?;
            boot::mount(kind, target, flags, options)
        }
        other => other,
    }
}

fn holds_something(folder: &str) -> bool {
    let folder = file::open_str(folder, libc::O_RDONLY | libc::O_DIRECTORY);
    folder
        .and_then(file::list)
        .is_ok_and(|entries| !entries.is_empty())
}
