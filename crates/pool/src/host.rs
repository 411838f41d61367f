//! The default size of the pool: 80 % of the memory that this process may use, and all of its CPUs.
//!
//! In a container a process may use less than the host has: its memory cgroup has a limit (version 1 or 2
//! of the interface, `Documentation/admin-guide/cgroup-v1/memory.rst` and `cgroup-v2.rst` of Linux), beyond
//! which the kernel kills guests. Each cgroup on the path to the root limits those below it.

use camino::{Utf8Path, Utf8PathBuf};
use std::fmt;
use std::thread::available_parallelism;

/// The part of the memory that is shared out, percent.
const MEMORY_SHARE: u64 = 80;

/// Assumed memory of a host whose `/proc/meminfo` cannot be read, bytes.
const UNKNOWN_MEMORY: u64 = 2 << 30;

/// The memory that this process may use, and what limits it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostMemory {
    /// Bytes.
    pub bytes: u64,
    /// The cgroup whose limit it is; `None` if it is the memory of the host.
    cgroup: Option<Utf8PathBuf>,
}

impl HostMemory {
    /// Reads the current limits.
    pub fn read() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let host = Self {
            bytes: total(&read("/proc/meminfo")).unwrap_or(UNKNOWN_MEMORY),
            cgroup: None,
        };
        let limit = tightest(
            &read("/proc/self/cgroup"),
            &read("/proc/self/mountinfo"),
            |path| std::fs::read_to_string(path).ok(),
        );
        // In version 1 "no limit" is a number larger than any memory.
        limit
            .filter(|limit| limit.bytes < host.bytes)
            .unwrap_or(host)
    }

    /// The part of it that the pool shares out, bytes. The rest is left to the host.
    pub fn share(&self) -> u64 {
        self.bytes / 100 * MEMORY_SHARE
    }
}

impl fmt::Display for HostMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.bytes >> 20;
        match &self.cgroup {
            None => write!(f, "{MEMORY_SHARE} % of the host's {mib} MiB"),
            Some(cgroup) => write!(
                f,
                "{MEMORY_SHARE} % of the {mib} MiB of the memory cgroup {cgroup}"
            ),
        }
    }
}

/// The default size of the pool, bytes.
pub fn default_memory() -> u64 {
    HostMemory::read().share()
}

/// The CPUs that this process may use.
pub fn default_cpus() -> u32 {
    available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX))
}

/// `MemTotal` of `/proc/meminfo` (see `proc_meminfo(5)`), bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The lowest limit of the process's memory cgroups and of those around them. `cgroup` is
/// `/proc/self/cgroup` (`cgroups(7)`), `mountinfo` is `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`).
fn tightest(
    cgroup: &str,
    mountinfo: &str,
    read: impl Fn(&Utf8Path) -> Option<String>,
) -> Option<HostMemory> {
    let mut tightest: Option<HostMemory> = None;
    for mount in mountinfo.lines().filter_map(Mount::parse) {
        let Some(group) = cgroup.lines().find_map(|line| mount.group_in(line)) else {
            continue;
        };
        // A mount of a part of the hierarchy, as containers have it, shows only what is below.
        let below = Utf8Path::new(group).strip_prefix(&mount.root);
        let folder = match below {
            Ok(below) if below.as_str() != "" => mount.point.join(below),
            _ => mount.point.clone(),
        };
        let groups = folder
            .ancestors()
            .take_while(|folder| folder.starts_with(&mount.point));
        for folder in groups {
            let limit = read(&folder.join(mount.file)).and_then(|text| text.trim().parse().ok());
            let Some(bytes) = limit else { continue };
            if tightest.as_ref().is_none_or(|known| bytes < known.bytes) {
                tightest = Some(HostMemory {
                    bytes,
                    cgroup: Some(folder.to_owned()),
                });
            }
        }
    }
    tightest
}

/// A mounted hierarchy of memory cgroups.
#[derive(Debug)]
struct Mount {
    /// The part of the hierarchy that is mounted.
    root: Utf8PathBuf,
    /// Where.
    point: Utf8PathBuf,
    /// The file that holds the limit of a cgroup.
    file: &'static str,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (unescaped(before.next()?), unescaped(before.next()?));
        let mut after = after.split(' ');
        let file = match after.next()? {
            "cgroup2" => "memory.max",
            "cgroup" if after.nth(1)?.split(',').any(|option| option == "memory") => {
                "memory.limit_in_bytes"
            }
            _ => return None,
        };
        Some(Self { root, point, file })
    }

    /// The process's cgroup in this hierarchy, if `line` says it: `ID:CONTROLLERS:PATH`.
    fn group_in<'a>(&self, line: &'a str) -> Option<&'a str> {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let ours = match self.file {
            "memory.max" => controllers.is_empty(),
            _ => controllers.split(',').any(|name| name == "memory"),
        };
        ours.then_some(path)
    }
}

/// A path of mountinfo, in which blanks are written in octal.
fn unescaped(path: &str) -> Utf8PathBuf {
    path.replace("\\040", " ").replace("\\134", "\\").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read() {
        let text = "MemTotal:       24618372 kB\nMemFree:        100 kB\n";
        assert_eq!(total(text), Some(24_618_372 * 1024));
        assert_eq!(total("MemTotal: lots"), None);
        assert!(default_memory() > 0 && default_cpus() > 0);
    }

    fn found(cgroup: &str, mountinfo: &str, files: &[(&str, &str)]) -> Option<(u64, String)> {
        let read = |path: &Utf8Path| {
            let file = files.iter().find(|(name, _)| path == *name);
            file.map(|(_, text)| (*text).to_owned())
        };
        let limit = tightest(cgroup, mountinfo, read)?;
        Some((limit.bytes, limit.cgroup?.into_string()))
    }

    #[test]
    fn the_tightest_of_nested_groups_counts() {
        let mountinfo = "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate";
        let files = [
            ("/sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("/sys/fs/cgroup/a/memory.max", "629145600\n"),
            ("/sys/fs/cgroup/a/b/c/memory.max", "1048576000\n"),
        ];
        let tightest = Some((629_145_600, "/sys/fs/cgroup/a".to_owned()));
        assert_eq!(found("0::/a/b/c\n", mountinfo, &files), tightest);
        assert_eq!(found("0::/\n", mountinfo, &files), None);
        assert_eq!(found("", "", &files), None);
    }

    #[test]
    fn both_versions_are_read_side_by_side() {
        let mountinfo = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
            35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let cgroup = "4:memory:/jobs/7\n3:cpuset:/other\n0::/\n";
        let files = [
            (
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
            (
                "/sys/fs/cgroup/memory/jobs/7/memory.limit_in_bytes",
                "1000000\n",
            ),
            ("/sys/fs/cgroup/cpuset/other/memory.limit_in_bytes", "1\n"),
        ];
        assert_eq!(
            found(cgroup, mountinfo, &files),
            Some((1_000_000, "/sys/fs/cgroup/memory/jobs/7".to_owned()))
        );
    }

    #[test]
    fn a_container_sees_its_part_of_the_hierarchy() {
        let mountinfo = "9 8 0:3 /docker/x /sys/fs/cgroup/a\\040b ro - cgroup cgroup rw,memory";
        let files = [("/sys/fs/cgroup/a b/memory.limit_in_bytes", "5\n")];
        let at_mount = Some((5, "/sys/fs/cgroup/a b".to_owned()));
        for group in ["/docker/x", "/docker/x/inner", "/elsewhere"] {
            let cgroup = format!("4:memory:{group}\n");
            assert_eq!(found(&cgroup, mountinfo, &files), at_mount, "{group}");
        }
    }
}
