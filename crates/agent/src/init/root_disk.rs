//! A root file system on a disk, in place of the initial RAM file system that holds the agent.
//!
//! ```text
//!   wait for the disk ─▶ mount /dev, and it ─▶ /dev, /proc, /sys, /run in it ─▶ it becomes the root of process 1
//!     ─▶ copy the test's files into it ─▶ delete what the RAM file system holds
//! ```
//!
//! This is what `switch_root` does for an initial RAM file system of a distribution. Process 1 does it
//! before it forks, so the init that it becomes and the agent beside it are in the new root. The kernel's
//! own threads share the root of process 1, so programs that the kernel runs, such as `modprobe`, are those of
//! the new root.
//!
//! If the agent is the init, its folder stays reachable in the new root, since it is the guest's `modprobe`.

use super::{chain, mounts};
use crate::disks;
use crate::sys::{Errno, Sys, block, fd, file, tree};
use provium_protocol::boot::{AGENT_DIR, BootPlan, ROOT_FILES_DIR, RootDisk};
use provium_protocol::message::EntryType;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Where the new root is mounted before it becomes the root.
const MOUNT_POINT: &str = "/.provium/disk";
/// What stays of the old root if the agent is the init.
const AGENT_NAME: &CStr = c".provium";

/// Makes the disk of the plan the root, and reports what could not be done and is not needed.
///
/// # Errors
/// Why the disk cannot be the root, and what to do.
pub(super) fn enter(root: &RootDisk, plan: &BootPlan) -> Result<Vec<String>, String> {
    let RootDisk { serial, filesystem } = root;
    let name = disks::await_disk(serial).map_err(|error| {
        format!(
            "the root file system is on a disk that the guest does not have: {error}: {}; attach it, and \
             name virtio_blk among the modules of the profile if the kernel has it as a module",
            Errno(error.errno)
        )
    })?;
    mount(&name, filesystem).map_err(|errno| {
        format!(
            "cannot mount the root file system: disk `{serial}` ({name}) as {filesystem}: {errno}; the disk \
             has to hold a file system of that type, and the kernel, or the modules of the profile, to have \
             its driver"
        )
    })?;
    let mut warnings = mounts::mount_early(MOUNT_POINT);
    let old = switch().map_err(|errno| {
        format!("cannot make disk `{serial}` ({name}) the root file system: {errno}")
    })?;
    copy_files(&old).map_err(|(path, errno)| {
        let path = String::from_utf8_lossy(&path).into_owned();
        format!(
            "cannot write {path}, a file of the boot options, to disk `{serial}` ({name}): {errno}"
        )
    })?;
    for emptied in [ROOT_FILES_DIR, MOUNT_POINT] {
        if let Err(errno) = delete_folder(&old, emptied) {
            warnings.push(format!("freeing {emptied}: {errno}"));
        }
    }
    let keeps_agent = chain::find(plan).is_none();
    if keeps_agent && let Err(errno) = bind_agent(&old) {
        warnings.push(format!("making {AGENT_DIR} in the root: {errno}"));
    }
    let kept = keeps_agent.then_some(AGENT_NAME);
    if let Err(errno) = delete(old.as_raw_fd(), kept) {
        warnings.push(format!("freeing the initial RAM file system: {errno}"));
    }
    Ok(warnings)
}

/// Mounts a disk by the path that programs of the new root know it by.
fn mount(name: &str, filesystem: &str) -> Sys<()> {
    mounts::mount_devices()?;
    match file::make_dir(MOUNT_POINT.as_bytes(), 0o700) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    block::mount(&format!("/dev/{name}"), MOUNT_POINT, filesystem, 0)
}

/// Puts what is mounted at the mount point over the root, and enters it. The old root.
fn switch() -> Sys<OwnedFd> {
    let old = file::open_str("/", libc::O_RDONLY | libc::O_DIRECTORY)?;
    let new = file::open_str(MOUNT_POINT, libc::O_PATH | libc::O_DIRECTORY)?;
    block::move_mount(MOUNT_POINT, "/")?;
    file::change_root(new.as_raw_fd())?;
    Ok(old)
}

/// What failed, and where.
type CopyError = (Vec<u8>, Errno);

/// Copies the test's files from the old root into the new one, which has been entered, so that links on their
/// ways mean what they mean there.
fn copy_files(old: &OwnedFd) -> Result<(), CopyError> {
    let path = ROOT_FILES_DIR.trim_start_matches('/').as_bytes();
    let failed = |errno| (ROOT_FILES_DIR.as_bytes().to_vec(), errno);
    let path = file::path(path).map_err(failed)?;
    match file::open_at(
        old.as_raw_fd(),
        &path,
        libc::O_RDONLY | libc::O_DIRECTORY,
        0,
    ) {
        Ok(folder) => copy_folder(folder.as_raw_fd(), b""),
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(failed(errno)),
    }
}

/// Copies what is in a folder to the folder of that path, without the slash at its end.
fn copy_folder(from: RawFd, to: &[u8]) -> Result<(), CopyError> {
    let failed = |errno| (to.to_vec(), errno);
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    let folder = file::open_at(from, c".", flags, 0).map_err(failed)?;
    for entry in file::list(folder).map_err(failed)? {
        let target = [to, b"/", &entry.name].concat();
        let failed = |errno| (target.clone(), errno);
        let name = file::path(&entry.name).map_err(failed)?;
        if entry.entry_type == EntryType::Dir {
            match file::make_dir(&target, 0o755) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed(errno)),
            }
            let inner = file::open_at(from, &name, flags, 0).map_err(failed)?;
            copy_folder(inner.as_raw_fd(), &target)?;
        } else {
            copy_file(from, &name, &target).map_err(failed)?;
        }
    }
    Ok(())
}

fn copy_file(folder: RawFd, name: &CStr, target: &[u8]) -> Sys<()> {
    let from = file::open_at(folder, name, libc::O_RDONLY, 0)?;
    let perm = file::stat_fd(from.as_raw_fd())?.to_message().perm;
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC;
    let to = file::open(target, flags, perm)?;
    let content = fd::read_to_end(from.as_raw_fd())?;
    fd::write_all(to.as_raw_fd(), &content)?;
    file::chmod_fd(to.as_raw_fd(), perm)
}

/// Makes the agent's folder of the old root one of the new root.
fn bind_agent(old: &OwnedFd) -> Sys<()> {
    match file::make_dir(AGENT_DIR.as_bytes(), 0o755) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    // The old root has no path any more but this one.
    let source = format!("/proc/self/fd/{}{AGENT_DIR}", old.as_raw_fd());
    block::bind(&source, AGENT_DIR)
}

/// Deletes a folder of the old root, if it is there.
fn delete_folder(old: &OwnedFd, path: &str) -> Sys<()> {
    let name = file::path(path.trim_start_matches('/').as_bytes())?;
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    match file::open_at(old.as_raw_fd(), &name, flags, 0) {
        Ok(folder) => {
            delete(folder.as_raw_fd(), None)?;
            tree::remove_dir(old.as_raw_fd(), &name)
        }
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Deletes what is in a folder of a file system in RAM, but for what is kept and other file systems.
fn delete(folder: RawFd, kept: Option<&CStr>) -> Sys<()> {
    let here = file::stat_fd(folder)?;
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    for entry in file::list(file::open_at(folder, c".", flags, 0)?)? {
        let name = file::path(&entry.name)?;
        if Some(name.as_c_str()) == kept {
            continue;
        }
        if entry.entry_type != EntryType::Dir {
            tree::unlink(folder, &name)?;
            continue;
        }
        let inner = file::open_at(folder, &name, flags, 0)?;
        if file::stat_fd(inner.as_raw_fd())?.is_on_device_of(&here) {
            delete(inner.as_raw_fd(), None)?;
            tree::remove_dir(folder, &name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn files_of_the_test_replace_those_of_the_disk() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let base = std::env::temp_dir().join(format!("provium-files-{}", std::process::id()));
        let (old, new) = (base.join("old"), base.join("new"));
        let source = old.join(&ROOT_FILES_DIR[1..]);
        fs::create_dir_all(source.join("lib/a")).unwrap();
        fs::create_dir_all(new.join("usr/lib")).unwrap();
        symlink("usr/lib", new.join("lib")).unwrap();
        fs::write(new.join("usr/lib/file"), "old and longer").unwrap();
        fs::write(source.join("lib/file"), "new").unwrap();
        fs::write(source.join("lib/a/b"), "b").unwrap();
        fs::set_permissions(source.join("lib/file"), fs::Permissions::from_mode(0o4751)).unwrap();

        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        let folder = file::open_str(source.to_str().unwrap(), flags).unwrap();
        copy_folder(folder.as_raw_fd(), new.to_str().unwrap().as_bytes()).unwrap();
        assert_eq!(fs::read(new.join("usr/lib/file")).unwrap(), b"new");
        let metadata = fs::metadata(new.join("usr/lib/file")).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o4751);
        assert_eq!(fs::read(new.join("usr/lib/a/b")).unwrap(), b"b");

        fs::create_dir_all(new.join("usr/lib/c")).unwrap();
        fs::write(source.join("lib/c"), "over a folder").unwrap();
        let target = new.join("lib/c").to_str().unwrap().as_bytes().to_vec();
        let (path, errno) =
            copy_folder(folder.as_raw_fd(), new.to_str().unwrap().as_bytes()).unwrap_err();
        assert_eq!((path, errno), (target, Errno(libc::EISDIR)));
        fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn the_old_root_is_deleted_but_for_the_agent() {
        let root = std::env::temp_dir().join(format!("provium-old-root-{}", std::process::id()));
        for folder in ["a/b/c", ".provium/modules", "empty"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for file in ["a/b/c/file", "a/file", ".provium/agent", "init"] {
            fs::write(root.join(file), "text").unwrap();
        }
        std::os::unix::fs::symlink("/nowhere", root.join("a/link")).unwrap();
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        let folder = file::open_str(root.to_str().unwrap(), flags).unwrap();
        delete_folder(&folder, "/a/b").unwrap();
        delete_folder(&folder, "/gone").unwrap();
        assert!(!root.join("a/b").exists() && root.join("a/file").exists());
        delete(folder.as_raw_fd(), Some(AGENT_NAME)).unwrap();
        let left = || {
            let entries = fs::read_dir(&root).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.collect::<Vec<_>>()
        };
        assert_eq!(left(), [".provium"]);
        assert!(root.join(".provium/agent").exists());
        delete(folder.as_raw_fd(), None).unwrap();
        assert!(left().is_empty());
        fs::remove_dir(&root).unwrap();
    }
}
