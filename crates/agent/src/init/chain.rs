//! Handing process 1 over to the image's own init.

use crate::roots;
use crate::sys::{Errno, detached, fd, file, signal, spawn};
use provium_protocol::boot::BootPlan;
use provium_protocol::message::EntryType;
use std::ffi::{CString, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

/// The first init of the plan that the image has. Whether it can be run shows when it is: an image
/// whose init is broken must not boot as if it had none.
pub(super) fn find(plan: &BootPlan) -> Option<CString> {
    let paths = plan.init.iter();
    let mut paths = paths.filter_map(|path| CString::new(path.as_bytes()).ok());
    paths.find(|path| file::stat_at(libc::AT_FDCWD, path, libc::AT_SYMLINK_NOFOLLOW).is_ok())
}

fn strings(list: impl Iterator<Item = OsString>) -> Vec<CString> {
    list.filter_map(|text| CString::new(text.into_vec()).ok())
        .collect()
}

/// Becomes the init, with the arguments and the environment that the kernel gave to the agent. If
/// the kernel does not execute it, `report` gets the reason, and this process waits for the host to
/// end the machine: an end of process 1 would bury the reason under a panic.
pub(super) fn become_init(init: &CString, report: OwnedFd) -> ! {
    signal::unblock_all();
    let environment = strings(std::env::vars_os().map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        name
    }));
    let mut arguments = vec![init.clone()];
    arguments.extend(strings(std::env::args_os().skip(1)));
    let errno = spawn::replace(init, &arguments, &environment);
    let reason = format!(
        "cannot run {}: {errno}{}",
        init.to_string_lossy(),
        explanation(init, errno)
    );
    roots::log(&reason);
    let _ = fd::write_all(report.as_raw_fd(), reason.as_bytes());
    // Its end is what the other process waits for.
    drop(report);
    detached::idle()
}

/// Waits until process 1 has become its init; the reason, if it could not.
pub(super) fn await_init(report: &OwnedFd) -> Option<String> {
    let reason = fd::read_to_end(report.as_raw_fd()).unwrap_or_default();
    (!reason.is_empty()).then(|| String::from_utf8_lossy(&reason).into_owned())
}

/// What is behind an error that does not say it.
fn explanation(init: &CString, errno: Errno) -> &'static str {
    let found = file::stat(init.as_bytes());
    match (errno, found) {
        (Errno::NOENT, Err(_)) => "; it is a link to a file that does not exist",
        (Errno::NOENT, Ok(_)) => {
            "; the file exists, but not the interpreter or loader that it names"
        }
        (Errno(libc::EACCES), Ok(found)) if found.entry_type() == EntryType::Dir => {
            "; it is a directory"
        }
        (Errno(libc::EACCES), Ok(found)) if !found.is_executable_file() => {
            "; the file is not executable"
        }
        (Errno(libc::ENOEXEC), Ok(_)) => {
            "; it is neither an executable nor a script with a #! line"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::Path;

    fn named(path: &Path) -> CString {
        CString::new(path.as_os_str().as_encoded_bytes()).unwrap()
    }

    #[test]
    fn an_init_that_cannot_be_run_is_found_and_its_failure_is_explained() {
        let folder = std::env::temp_dir().join(format!("provium-init-{}", std::process::id()));
        fs::create_dir_all(folder.join("folder")).unwrap();
        fs::write(folder.join("plain"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(folder.join("plain"), fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(folder.join("text"), "text").unwrap();
        fs::set_permissions(folder.join("text"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(folder.join("orphan"), "#!/nowhere\n").unwrap();
        fs::set_permissions(folder.join("orphan"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("gone", folder.join("dangling")).unwrap();

        for (name, errno, said) in [
            ("plain", libc::EACCES, "not executable"),
            ("folder", libc::EACCES, "a directory"),
            ("text", libc::ENOEXEC, "#! line"),
            ("orphan", libc::ENOENT, "interpreter"),
            ("dangling", libc::ENOENT, "does not exist"),
        ] {
            let path = folder.join(name);
            let plan = BootPlan {
                init: vec![
                    "/no/such/init".to_owned(),
                    path.to_str().unwrap().to_owned(),
                ],
                ..BootPlan::default()
            };
            assert_eq!(find(&plan), Some(named(&path)));
            let failed = spawn::replace(&named(&path), &[named(&path)], &[]);
            assert_eq!(failed, Errno(errno), "{name}");
            let explained = explanation(&named(&path), failed);
            assert!(explained.contains(said), "{name}: {explained}");
        }
        assert_eq!(find(&BootPlan::default()), None);
        fs::remove_dir_all(&folder).unwrap();
    }
}
