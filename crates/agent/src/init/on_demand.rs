//! Making the agent the guest's `modprobe`, for the kernel and for whoever types it.

use crate::modprobe::SOCKET_PATH;
use provium_protocol::boot::AGENT_PATH;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

/// The name under which the agent acts as modprobe, see [`crate::modprobe`].
const MODPROBE: &str = "/.provium/modprobe";
/// Where the kernel looks up what to run for a module it wants.
const KERNEL_SETTING: &str = "/proc/sys/kernel/modprobe";
/// Folders that a modprobe may be in.
const FOLDERS: [&str; 4] = ["/sbin", "/bin", "/usr/sbin", "/usr/bin"];

/// Puts the command in place and listens for it.
pub(super) fn install(complaints: &mut Vec<String>) -> Option<OwnedFd> {
    match listen() {
        Ok(listener) => {
            take_over_names(complaints);
            Some(listener)
        }
        Err(error) => {
            complaints.push(format!("modules on demand: {error}"));
            None
        }
    }
}

fn listen() -> io::Result<OwnedFd> {
    let listener = UnixListener::bind(SOCKET_PATH)?;
    listener.set_nonblocking(true)?;
    symlink(AGENT_PATH, MODPROBE)?;
    fs::write(KERNEL_SETTING, MODPROBE)?;
    Ok(listener.into())
}

/// A busybox modprobe finds no modules in the guest and is replaced; a real one is the image's own
/// choice and stays. With none at all, there will be one.
fn take_over_names(complaints: &mut Vec<String>) {
    let mut found = false;
    for folder in FOLDERS {
        let name = Path::new(folder).join("modprobe");
        if fs::symlink_metadata(&name).is_err() {
            continue;
        }
        found = true;
        if is_busybox(&name)
            && let Err(error) = fs::remove_file(&name).and_then(|()| symlink(MODPROBE, &name))
        {
            complaints.push(format!("replace {}: {error}", name.display()));
        }
    }
    if !found {
        let made = fs::create_dir_all("/sbin").and_then(|()| symlink(MODPROBE, "/sbin/modprobe"));
        if let Err(error) = made {
            complaints.push(format!("make /sbin/modprobe: {error}"));
        }
    }
}

/// Whether it is a link, soft or hard, to busybox.
fn is_busybox(name: &Path) -> bool {
    let target = fs::canonicalize(name);
    if target.is_ok_and(|target| target.file_name().is_some_and(|file| file == "busybox")) {
        return true;
    }
    let identity = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let this = identity(name);
    this.is_some()
        && FOLDERS.iter().any(|folder| identity(&Path::new(folder).join("busybox")) == this)
}
