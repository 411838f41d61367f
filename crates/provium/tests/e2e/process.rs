//! Processes of the host, and waiting for what they do.

use std::time::{Duration, Instant};

/// Longer than anything that is waited for here takes on a busy host.
pub(crate) const LIMIT: Duration = Duration::from_secs(300);

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(20);

/// Waits until `holds`, at most [`LIMIT`]. `failed` is asked for what to say after that.
pub(crate) fn wait_until(
    what: &str,
    mut holds: impl FnMut() -> bool,
    failed: impl FnOnce() -> String,
) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(
            Instant::now() < deadline,
            "not within {LIMIT:?}: {what}\n{}",
            failed()
        );
        std::thread::sleep(INTERVAL);
    }
}

/// Waits until `holds`, at most [`LIMIT`].
pub(crate) fn wait_for(what: &str, holds: impl FnMut() -> bool) {
    wait_until(what, holds, String::new);
}

/// The children of a process.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    let of_task = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children"));
    tasks
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|task| of_task(task).ok())
        .flat_map(|text| {
            let pids = text.split_whitespace().map(|pid| pid.parse().unwrap());
            pids.collect::<Vec<u32>>()
        })
        .collect()
}

/// Whether a process has ended. One that its parent has not waited for yet has.
pub(crate) fn is_gone(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return true;
    };
    // The state follows the name, which is in parentheses and may hold anything.
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| rest.starts_with(" Z"))
}

/// Sends a signal, by its name without `SIG`.
pub(crate) fn send_signal(pid: u32, name: &str) {
    let sent = std::process::Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status();
    assert!(sent.unwrap().success(), "kill -{name} {pid}");
}
