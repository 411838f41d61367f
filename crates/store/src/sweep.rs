//! Temporary folders: named after the process that fills them, swept once it is gone.

use camino::{Utf8Path, Utf8PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

const PREFIX: &str = ".tmp-";

/// A name for a new temporary folder of this process in `bucket`.
pub(crate) fn new_name(bucket: &Utf8Path) -> Utf8PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let pid = std::process::id();
    let start = start_time(pid).unwrap_or(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    bucket.join(format!("{PREFIX}{pid}-{start}-{number}"))
}

/// Removes the temporary folders whose process is gone. What cannot be removed stays for the next.
pub(crate) fn sweep(bucket: &Utf8Path) {
    let Ok(entries) = bucket.read_dir_utf8() else {
        return;
    };
    for entry in entries.flatten() {
        if owner(entry.file_name()).is_some_and(|(pid, start)| start_time(pid) != Some(start)) {
            let _ = fs_err::remove_dir_all(entry.path());
        }
    }
}

fn owner(name: &str) -> Option<(u32, u64)> {
    let mut parts = name.strip_prefix(PREFIX)?.split('-');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// When the process started, in clock ticks since the host's boot; `None` when there is none.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field may hold anything, also spaces and parentheses; it ends with the last `)`.
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(19)?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_fills_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        let bucket = Utf8Path::from_path(folder.path()).unwrap();
        let mine = new_name(bucket);
        let recycled = bucket.join(format!("{PREFIX}{}-1-0", std::process::id()));
        let gone = bucket.join(format!("{PREFIX}4194305-77-0"));
        for path in [&mine, &recycled, &gone, &bucket.join("entry")] {
            fs_err::create_dir(path).unwrap();
        }
        sweep(bucket);
        assert!(mine.exists() && bucket.join("entry").exists());
        assert!(!recycled.exists() && !gone.exists());
    }
}
