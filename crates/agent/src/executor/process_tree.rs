//! Process trees, as read from `/proc`.

use crate::roots;
use crate::sys::{file, signal};

/// A process that may have left the group of the command that it descends from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stray {
    pub(super) pid: i32,
    /// Its start time, which distinguishes it from a later process with the same id.
    started: u64,
}

/// The fields of `/proc/PID/stat` that are used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: i32,
    group: i32,
    started: u64,
}

impl Stat {
    fn of(pid: i32) -> Option<Self> {
        Self::parse(&file::read_at(roots::PROC, &format!("{pid}/stat")).ok()?)
    }

    fn parse(stat: &[u8]) -> Option<Self> {
        // The name before it may hold anything.
        let name_end = stat.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
        let mut fields = rest.split_ascii_whitespace().skip(1);
        Some(Self {
            parent: fields.next()?.parse().ok()?,
            group: fields.next()?.parse().ok()?,
            // Field 22 of the file.
            started: fields.nth(16)?.parse().ok()?,
        })
    }
}

impl Stray {
    /// The process with this id, if there is one.
    pub(super) fn of(pid: i32) -> Option<Self> {
        Stat::of(pid).map(|stat| Self {
            pid,
            started: stat.started,
        })
    }

    /// Signals it, unless its id belongs to another process now.
    pub(super) fn signal(&self, number: i32) {
        if Stat::of(self.pid).is_some_and(|stat| stat.started == self.started) {
            let _ = signal::send(self.pid, number, false);
        }
    }
}

/// Kills a process with its group, and what descends from it outside of the group.
pub(super) fn kill_tree(pid: i32) {
    let strays = strays_of(pid);
    let _ = signal::send(pid, libc::SIGKILL, true);
    let _ = signal::send(pid, libc::SIGKILL, false);
    for stray in strays {
        stray.signal(libc::SIGKILL);
    }
}

fn numbers() -> Vec<i32> {
    let entries = file::open_at(roots::PROC, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0)
        .and_then(file::list)
        .unwrap_or_default();
    entries
        .iter()
        .filter_map(|entry| std::str::from_utf8(&entry.name).ok()?.parse().ok())
        .collect()
}

/// The descendants of a process that are not in its group.
pub(super) fn strays_of(root: i32) -> Vec<Stray> {
    let all: Vec<(i32, Stat)> = numbers()
        .into_iter()
        .filter_map(|pid| Some((pid, Stat::of(pid)?)))
        .collect();
    let mut found = vec![root];
    let mut strays = Vec::new();
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next += 1;
        for (pid, stat) in all.iter().filter(|(_, stat)| stat.parent == parent) {
            // A process is listed once; numbers cannot form a circle but by their reuse meanwhile.
            if found.contains(pid) {
                continue;
            }
            found.push(*pid);
            if stat.group != root {
                strays.push(Stray {
                    pid: *pid,
                    started: stat.started,
                });
            }
        }
    }
    strays
}

/// The process with this name, which the agent has set.
pub(super) fn find_named(name: &str) -> Option<i32> {
    numbers().into_iter().find(|pid| {
        file::read_at(roots::PROC, &format!("{pid}/comm"))
            .is_ok_and(|found| found.trim_ascii_end() == name.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_what_separates_fields() {
        let text = b"7 (a) b) S 3 5 5 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 4242 9 9";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.parent, stat.group, stat.started), (3, 5, 4242));
    }
}
