//! Operation processes of a busy raw process: the executor forks them itself, and they join the raw
//! process's state through `/proc` and pidfds.

use super::carry_out;
use super::reserved_slot::ReservedSlot;
use crate::roots;
use crate::sys::{Errno, Sys, fd, file, namespace, process, signal};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// The namespaces that can be entered, by their names in `/proc`. The user namespace comes last: from
/// inside it, the others could no longer be entered.
const NAMESPACES: [&str; 7] = ["net", "uts", "ipc", "cgroup", "time", "mnt", "user"];
/// As many descriptors as this would be welcome meanwhile.
const PLENTY: u64 = 200_000;

/// Joins a raw process and carries out an op. For a process that the executor has just forked.
pub(crate) fn run_beside(raw_process: i32, slot: ReservedSlot, payload: &[u8]) -> ! {
    roots::set_oom_score("0");
    signal::default_dispositions();
    // What it cannot take on makes it act as the executor would; a test sees that in the result of
    // the op, which names what failed.
    if join(raw_process).is_err() {
        fd::close_range(3, i32::MAX);
    }
    signal::unblock_all();
    carry_out::run(slot, raw_process, payload)
}

struct Status {
    uids: [u32; 3],
    gids: [u32; 3],
    groups: Vec<u32>,
    umask: u32,
    /// Effective, permitted, inheritable.
    capabilities: [u64; 3],
}

fn join(raw_process: i32) -> Sys<()> {
    let _ = process::set_limit(
        libc::RLIMIT_NOFILE,
        libc::rlimit {
            rlim_cur: PLENTY,
            rlim_max: PLENTY,
        },
    );
    let handle = process::open(raw_process)?;
    let open = |name: &str, flags| {
        let path = file::path(format!("{raw_process}/{name}").as_bytes())?;
        file::open_at(roots::PROC, &path, flags, 0)
    };
    let status = Status::read(raw_process)?;
    let folder = libc::O_PATH | libc::O_DIRECTORY;
    let (root, cwd) = (open("root", folder)?, open("cwd", folder)?);
    let mut spaces = Vec::new();
    for name in NAMESPACES {
        if let (Ok(theirs), Ok(own)) = (link(raw_process, name), link(process::id(), name))
            && theirs != own
        {
            spaces.push(open(&format!("ns/{name}"), libc::O_RDONLY)?);
        }
    }
    let numbers = descriptors_of(raw_process);
    // What is needed meanwhile is moved above the raw process's own numbers and this one's fixed ones.
    // No higher than that: the kernel's table is as long as the highest number.
    let highest = numbers.iter().copied().max().unwrap_or(0);
    let above = highest.max(roots::FIRST_FREE) + 1;
    let descriptors = take_descriptors(raw_process, &numbers, &handle, above);
    for space in &spaces {
        namespace::enter(space.as_raw_fd())?;
    }
    file::change_root(root.as_raw_fd())?;
    file::change_dir_to(cwd.as_raw_fd())?;
    process::set_umask(status.umask);
    drop((handle, root, cwd, spaces));
    place_descriptors(&descriptors, above);
    drop(descriptors);
    for resource in [
        libc::RLIMIT_NOFILE,
        libc::RLIMIT_FSIZE,
        libc::RLIMIT_CORE,
        libc::RLIMIT_STACK,
        libc::RLIMIT_NPROC,
        libc::RLIMIT_MEMLOCK,
    ] {
        if let Ok(limit) = process::limit_of(raw_process, resource) {
            let _ = process::set_limit(resource, limit);
        }
    }
    namespace::keep_capabilities();
    namespace::set_ids(status.uids, status.gids, &status.groups)?;
    namespace::set_capabilities(status.capabilities)
}

fn link(pid: i32, namespace: &str) -> Sys<Vec<u8>> {
    let path = CString::new(format!("{pid}/ns/{namespace}")).map_err(|_| Errno::INVAL)?;
    file::read_link_at(roots::PROC, &path)
}

/// The numbers of the raw process's descriptors.
fn descriptors_of(raw_process: i32) -> Vec<RawFd> {
    let entries = file::path(format!("{raw_process}/fd").as_bytes())
        .and_then(|path| file::open_at(roots::PROC, &path, libc::O_RDONLY, 0))
        .and_then(file::list)
        .unwrap_or_default();
    entries
        .iter()
        .filter_map(|entry| std::str::from_utf8(&entry.name).ok()?.parse().ok())
        .collect()
}

/// A copy of each descriptor of the raw process, with its number and whether it closes on exec.
fn take_descriptors(
    raw_process: i32,
    numbers: &[RawFd],
    handle: &OwnedFd,
    above: RawFd,
) -> Vec<(RawFd, bool, OwnedFd)> {
    let mut taken = Vec::new();
    for number in numbers.iter().copied() {
        let Ok(copy) = process::descriptor_of(handle.as_raw_fd(), number) else {
            continue;
        };
        let info = file::read_at(roots::PROC, &format!("{raw_process}/fdinfo/{number}"));
        let closes = info.is_ok_and(|info| {
            field(&info, "flags:")
                .and_then(|flags| i32::from_str_radix(flags, 8).ok())
                .is_some_and(|flags| flags & libc::O_CLOEXEC != 0)
        });
        taken.push((number, closes, fd::move_up(copy, above)));
    }
    taken
}

/// Makes them this process's only descriptors.
fn place_descriptors(taken: &[(RawFd, bool, OwnedFd)], above: RawFd) {
    fd::close_range(0, above - 1);
    for (number, closes, copy) in taken {
        let placed = if *closes {
            fd::copy_to(copy.as_raw_fd(), *number)
        } else {
            fd::copy_to_inheritable(copy.as_raw_fd(), *number)
        };
        // It is missing then, and the op says so.
        let _ = placed;
    }
}

/// The rest of the line that begins with a name.
fn field<'a>(text: &'a [u8], name: &str) -> Option<&'a str> {
    let text = std::str::from_utf8(text).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim())
}

impl Status {
    fn read(pid: i32) -> Sys<Self> {
        let text = file::read_at(roots::PROC, &format!("{pid}/status"))?;
        Self::parse(&text).ok_or(Errno::INVAL)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let ids = |name| {
            let mut ids = field(text, name)?.split_ascii_whitespace();
            let mut id = || ids.next()?.parse().ok();
            Some([id()?, id()?, id()?])
        };
        let set = |name| u64::from_str_radix(field(text, name)?, 16).ok();
        Some(Self {
            uids: ids("Uid:")?,
            gids: ids("Gid:")?,
            groups: field(text, "Groups:")?
                .split_ascii_whitespace()
                .filter_map(|group| group.parse().ok())
                .collect(),
            umask: field(text, "Umask:").and_then(|mask| u32::from_str_radix(mask, 8).ok())?,
            capabilities: [set("CapEff:")?, set("CapPrm:")?, set("CapInh:")?],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_by_its_names() {
        let text = b"Name:\tx\nUmask:\t0022\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 10 \nCapInh:\t0\nCapPrm:\tff\nCapEff:\t1f\n";
        let status = Status::parse(text).unwrap();
        assert_eq!(status.uids, [1, 2, 3]);
        assert_eq!(status.gids, [5, 6, 7]);
        assert_eq!(status.groups, [9, 10]);
        assert_eq!(status.umask, 0o22);
        assert_eq!(status.capabilities, [0x1f, 0xff, 0]);
        assert!(Status::parse(b"Name:\tx\n").is_none());
    }
}
