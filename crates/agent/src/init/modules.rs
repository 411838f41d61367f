//! Kernel modules: those of the boot plan, and standing in for `modprobe`.

use crate::roots;
use crate::sys::{Errno, Sys, boot, file};
use provium_protocol::boot::AGENT_PATH;

/// What the kernel runs when it wants a module.
const MODPROBE: &str = "/.provium/modprobe";
/// What people run.
const USUAL_MODPROBE: &str = "/sbin/modprobe";

/// Loads a file; one that is there already is fine.
fn load(path: &str) -> Sys<()> {
    let file = file::open_str(path, libc::O_RDONLY)?;
    match boot::load_module_file(&file) {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// Loads the modules in order; says what failed.
pub(super) fn load_all(paths: &[String]) -> Vec<String> {
    let failures = paths.iter().filter_map(|path| match load(path) {
        Ok(()) => None,
        Err(Errno(errno)) => Some(format!("loading {path}: errno {errno}")),
    });
    failures.collect()
}

/// Makes the agent the guest's `modprobe`.
pub(super) fn stand_in_for_modprobe() -> Sys<()> {
    match file::symlink(AGENT_PATH.as_bytes(), MODPROBE.as_bytes()) {
        Ok(()) | Err(Errno::EXIST) => {}
        other => return other,
    }
    // Busybox looks for a `modules.dep` that is not there. A real one is left alone.
    let is_busybox = file::read_link(USUAL_MODPROBE.as_bytes())
        .is_ok_and(|target| target.ends_with(b"busybox"));
    if is_busybox {
        let _ = file::remove(USUAL_MODPROBE.as_bytes());
    }
    let _ = file::symlink(MODPROBE.as_bytes(), USUAL_MODPROBE.as_bytes());
    match file::write_at(roots::PROC, "sys/kernel/modprobe", MODPROBE.as_bytes()) {
        // A kernel that never asks.
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}
