//! Loading kernel modules.

#![expect(unsafe_code, reason = "init_module and its kin have no function in std or libc")]

use super::checked::{c_string, checked};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// Loads the plan's modules in order, and frees the initial file system's memory of each. One that
/// fails is complained about; those after it are still tried.
pub(super) fn load_all(paths: &[String], complaints: &mut Vec<String>) {
    for path in paths {
        match load_file(Path::new(path)) {
            Ok(()) => {
                // It is in the kernel now; the file is the agent's own, in RAM.
                let _ = fs::remove_file(path);
            }
            Err(error) => complaints.push(format!("load module {path}: {error}")),
        }
    }
}

/// Loads a module from its file; fine if the kernel has it already.
fn load_file(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    let no_parameters = c"";
    // SAFETY: the descriptor is open and the parameters are a C string.
    let returned = unsafe {
        libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), no_parameters.as_ptr(), 0)
    };
    match checked(returned) {
        Ok(_) => Ok(()),
        Err(error) => match error.raw_os_error() {
            Some(libc::EEXIST) => Ok(()),
            // A kernel without the newer call, or a security module that refuses the folder.
            Some(libc::ENOSYS | libc::EPERM) => match insert(&fs::read(path)?, "") {
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
                other => other,
            },
            _ => Err(error),
        },
    }
}

/// Loads a module from its uncompressed object, with parameters as `modprobe(8)` takes them.
/// `EEXIST` if the kernel has it already.
pub(crate) fn insert(object: &[u8], parameters: &str) -> io::Result<()> {
    let parameters = c_string(parameters)?;
    // SAFETY: the object's address and length are those of one slice; the parameters are a C
    // string. The kernel copies both before it returns.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_init_module,
            object.as_ptr(),
            object.len(),
            parameters.as_ptr(),
        )
    };
    checked(returned).map(drop)
}

/// Removes a module that nothing uses.
pub(crate) fn remove(name: &str) -> io::Result<()> {
    let name = c_string(name)?;
    // SAFETY: the name is a C string. `O_NONBLOCK`: fail rather than wait until it is unused.
    let returned =
        unsafe { libc::syscall(libc::SYS_delete_module, name.as_ptr(), libc::O_NONBLOCK) };
    checked(returned).map(drop)
}
