//! Kernel modules: those of the boot plan, and standing in for `modprobe`.

use crate::roots;
use crate::sys::{Errno, Sys, boot, file};
use provium_protocol::boot::AGENT_PATH;
use provium_protocol::message::EntryType;
use std::ffi::CString;
use std::os::fd::AsRawFd;

/// What the kernel runs when it wants a module.
const MODPROBE: &str = "/.provium/modprobe";
/// Where people's `modprobe` may be. If it is nowhere, it will be in the first.
const FOLDERS: [&str; 4] = ["/sbin", "/bin", "/usr/sbin", "/usr/bin"];

/// Loads the modules in order, and frees the memory that the file of each takes; says what failed.
pub(super) fn load_all(paths: &[String]) -> Vec<String> {
    let cmdline = file::read_at(roots::PROC, "cmdline").unwrap_or_default();
    let cmdline = String::from_utf8_lossy(&cmdline);
    let failures = paths.iter().filter_map(|path| match load(path, &cmdline) {
        Ok(()) => {
            // It is the agent's own, in RAM.
            let _ = file::remove(path.as_bytes());
            None
        }
        Err(errno) => Some(format!("loading {path}: {errno}")),
    });
    failures.collect()
}

/// Loads a file; one that is there already is fine.
fn load(path: &str, cmdline: &str) -> Sys<()> {
    let file = file::open_str(path, libc::O_RDONLY)?;
    let name = path.rsplit('/').next().unwrap_or(path);
    let parameters = parameters(&normal_name(name.trim_end_matches(".ko")), cmdline);
    let parameters = CString::new(parameters).map_err(|_| Errno::INVAL)?;
    match boot::load_module_file(file.as_raw_fd(), &parameters) {
        // One that the kernel's command line forbids is not wanted.
        Err(Errno::EXIST | Errno(libc::EPERM)) => Ok(()),
        other => other,
    }
}

/// A module's name as the kernel has it: for people, `-` and `_` are the same.
pub(crate) fn normal_name(name: &str) -> String {
    name.replace('-', "_")
}

/// The parameters for a module on the kernel's command line: `loop.max_part=8` is `max_part=8` for
/// `loop`. What follows `--` is for the init.
pub(crate) fn parameters(module: &str, cmdline: &str) -> String {
    let words = cmdline
        .split_ascii_whitespace()
        .take_while(|&word| word != "--");
    let parameters = words
        .filter_map(|word| word.split_once('.'))
        .filter(|(name, _)| normal_name(name) == module)
        .map(|(_, parameter)| parameter);
    parameters.collect::<Vec<_>>().join(" ")
}

/// Makes the agent the guest's `modprobe`.
pub(super) fn stand_in_for_modprobe() -> Sys<()> {
    link(MODPROBE, AGENT_PATH)?;
    take_over_names()?;
    match file::write_at(roots::PROC, "sys/kernel/modprobe", MODPROBE.as_bytes()) {
        // A kernel that never asks.
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Busybox looks for a `modules.dep` that is not there. A real modprobe is left alone.
fn take_over_names() -> Sys<()> {
    let mut found = false;
    for folder in FOLDERS {
        let name = format!("{folder}/modprobe");
        if file::stat_at(
            libc::AT_FDCWD,
            &file::path(name.as_bytes())?,
            libc::AT_SYMLINK_NOFOLLOW,
        )
        .is_err()
        {
            continue;
        }
        found = true;
        if is_busybox(&name) {
            file::remove(name.as_bytes())?;
            link(&name, MODPROBE)?;
        }
    }
    if found {
        return Ok(());
    }
    if file::stat(FOLDERS[0].as_bytes()).is_err() {
        file::make_dir(FOLDERS[0].as_bytes(), 0o755)?;
    }
    link(&format!("{}/modprobe", FOLDERS[0]), MODPROBE)
}

/// Whether it is a link, symbolic or hard, to busybox.
fn is_busybox(name: &str) -> bool {
    let Ok(found) = file::stat(name.as_bytes()) else {
        // A dangling link.
        return true;
    };
    let says_so = |target: Vec<u8>| target.ends_with(b"busybox");
    file::read_link(name.as_bytes()).is_ok_and(says_so)
        || found.entry_type() == EntryType::File
            && FOLDERS.iter().any(|folder| {
                let busybox = file::stat(format!("{folder}/busybox").as_bytes());
                busybox.is_ok_and(|busybox| busybox.inode() == found.inode())
            })
}

fn link(name: &str, target: &str) -> Sys<()> {
    match file::symlink(target.as_bytes(), name.as_bytes()) {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_the_command_line_reach_their_module() {
        let cmdline = "quiet virtio-net.napi_tx=0 root=/dev/a.b loop.max_part=8 loop.x -- loop.y=1";
        assert_eq!(parameters("loop", cmdline), "max_part=8 x");
        assert_eq!(parameters("virtio_net", cmdline), "napi_tx=0");
        assert_eq!(parameters("dummy", cmdline), "");
    }
}
