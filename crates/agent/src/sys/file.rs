//! Files by path. Paths are bytes, as the kernel has them.

#![expect(unsafe_code, reason = "file calls of the kernel")]

use super::fd::own;
use super::{Errno, Sys, check};
use provium_protocol::message::{DirEntry, EntryType, FileStat};
use std::ffi::{CStr, CString};
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// A path for the kernel; a zero byte in it is `EINVAL`.
pub(crate) fn path(bytes: &[u8]) -> Sys<CString> {
    CString::new(bytes).map_err(|_| Errno::INVAL)
}

/// `openat(2)`; `O_CLOEXEC` is added.
pub(crate) fn open_at(folder: RawFd, path: &CStr, flags: i32, perm: u32) -> Sys<OwnedFd> {
    // SAFETY: a terminated string.
    let fd = unsafe { libc::openat(folder, path.as_ptr(), flags | libc::O_CLOEXEC, perm) };
    check(fd).map(own)
}

/// `open(2)`; `O_CLOEXEC` is added.
pub(crate) fn open(name: &[u8], flags: i32, perm: u32) -> Sys<OwnedFd> {
    open_at(libc::AT_FDCWD, &path(name)?, flags, perm)
}

/// `open(2)` of a path that is text.
pub(crate) fn open_str(name: &str, flags: i32) -> Sys<OwnedFd> {
    open(name.as_bytes(), flags, 0)
}

/// What is in a small file below a folder.
pub(crate) fn read_at(folder: RawFd, name: &str) -> Sys<Vec<u8>> {
    let file = open_at(folder, &path(name.as_bytes())?, libc::O_RDONLY, 0)?;
    super::fd::read_to_end(file.as_raw_fd())
}

/// What is in a small file.
pub(crate) fn read(name: &str) -> Sys<Vec<u8>> {
    read_at(libc::AT_FDCWD, name)
}

/// Writes to a file that exists below a folder, as is done in `/proc` and `/sys`.
pub(crate) fn write_at(folder: RawFd, name: &str, content: &[u8]) -> Sys<()> {
    let file = open_at(folder, &path(name.as_bytes())?, libc::O_WRONLY, 0)?;
    super::fd::write_all(file.as_raw_fd(), content)
}

pub(super) fn entry_type(mode: u32) -> EntryType {
    match mode & libc::S_IFMT {
        libc::S_IFREG => EntryType::File,
        libc::S_IFDIR => EntryType::Dir,
        libc::S_IFLNK => EntryType::Symlink,
        libc::S_IFIFO => EntryType::Fifo,
        libc::S_IFSOCK => EntryType::Socket,
        libc::S_IFCHR => EntryType::CharDevice,
        libc::S_IFBLK => EntryType::BlockDevice,
        _ => EntryType::Unknown,
    }
}

/// Which file it is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inode {
    dev: u64,
    ino: u64,
}

/// What [`stat`] and [`stat_fd`] found.
pub(crate) struct Metadata(libc::stat);

impl Metadata {
    pub(crate) fn inode(&self) -> Inode {
        Inode {
            dev: self.0.st_dev,
            ino: self.0.st_ino,
        }
    }

    pub(crate) fn entry_type(&self) -> EntryType {
        entry_type(self.0.st_mode)
    }

    pub(crate) fn is_on_device_of(&self, other: &Self) -> bool {
        self.0.st_dev == other.0.st_dev
    }

    pub(crate) fn size(&self) -> u64 {
        self.0.st_size.unsigned_abs()
    }

    pub(crate) fn is_executable_file(&self) -> bool {
        self.entry_type() == EntryType::File && self.0.st_mode & 0o111 != 0
    }

    pub(crate) fn to_message(&self) -> FileStat {
        FileStat {
            size: self.size(),
            mtime: self.0.st_mtime,
            mtime_ns: u32::try_from(self.0.st_mtime_nsec).unwrap_or(0),
            perm: self.0.st_mode & 0o7777,
            entry_type: self.entry_type(),
            uid: self.0.st_uid,
            gid: self.0.st_gid,
            ino: self.0.st_ino,
            nlink: self.0.st_nlink,
        }
    }
}

/// `fstatat(2)`; links are followed unless the flags say otherwise.
pub(crate) fn stat_at(folder: RawFd, path: &CStr, flags: i32) -> Sys<Metadata> {
    // SAFETY: all-zero is a valid stat, and there is room for it; a terminated string.
    unsafe {
        let mut found = mem::zeroed();
        check(libc::fstatat(folder, path.as_ptr(), &raw mut found, flags))?;
        Ok(Metadata(found))
    }
}

/// `stat(2)`.
pub(crate) fn stat(name: &[u8]) -> Sys<Metadata> {
    stat_at(libc::AT_FDCWD, &path(name)?, 0)
}

/// `fstat(2)`.
pub(crate) fn stat_fd(fd: RawFd) -> Sys<Metadata> {
    stat_at(fd, c"", libc::AT_EMPTY_PATH)
}

/// The names in a folder, sorted, without `.` and `..`. Not by the C library, which allocates.
pub(crate) fn list(folder: OwnedFd) -> Sys<Vec<DirEntry>> {
    /// Where `struct linux_dirent64` has length, type and name.
    const LENGTH: usize = 16;
    const TYPE: usize = 18;
    const NAME: usize = 19;
    let fd = folder.as_raw_fd();
    let mut entries = Vec::new();
    let mut buffer = vec![0_u8; 32 * 1024];
    loop {
        let room = buffer.as_mut_ptr();
        // SAFETY: the buffer is valid for its length.
        let got = check(unsafe { libc::syscall(libc::SYS_getdents64, fd, room, buffer.len()) })?;
        let Ok(got @ 1..) = usize::try_from(got) else {
            break;
        };
        let mut rest = &buffer[..got.min(buffer.len())];
        while rest.len() > NAME {
            let len = usize::from(u16::from_ne_bytes([rest[LENGTH], rest[LENGTH + 1]]));
            let (entry, later) = rest.split_at(len.clamp(NAME + 1, rest.len()));
            rest = later;
            let Ok(name) = CStr::from_bytes_until_nul(&entry[NAME..]) else {
                continue;
            };
            if name == c"." || name == c".." {
                continue;
            }
            let kind = match entry_type(u32::from(entry[TYPE]) << 12) {
                EntryType::Unknown => stat_at(fd, name, libc::AT_SYMLINK_NOFOLLOW)
                    .map_or(EntryType::Unknown, |found| found.entry_type()),
                known => known,
            };
            entries.push(DirEntry {
                name: name.to_bytes().to_vec(),
                entry_type: kind,
            });
        }
    }
    entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(entries)
}

/// `mkdir(2)`.
pub(crate) fn make_dir(name: &[u8], perm: u32) -> Sys<()> {
    let name = path(name)?;
    // SAFETY: a terminated string.
    check(unsafe { libc::mkdir(name.as_ptr(), perm) }).map(drop)
}

/// `unlink(2)`, and `rmdir(2)` for a folder.
pub(crate) fn remove(name: &[u8]) -> Sys<()> {
    let name = path(name)?;
    // SAFETY: a terminated string.
    match check(unsafe { libc::unlink(name.as_ptr()) }) {
        Err(Errno(libc::EISDIR | libc::EPERM)) => {}
        other => return other.map(drop),
    }
    let is_dir = stat_at(libc::AT_FDCWD, &name, libc::AT_SYMLINK_NOFOLLOW)
        .is_ok_and(|found| found.entry_type() == EntryType::Dir);
    if !is_dir {
        return Err(Errno(libc::EPERM));
    }
    // SAFETY: a terminated string.
    check(unsafe { libc::rmdir(name.as_ptr()) }).map(drop)
}

/// `rename(2)`.
pub(crate) fn rename(from: &[u8], to: &[u8]) -> Sys<()> {
    let (from, to) = (path(from)?, path(to)?);
    // SAFETY: terminated strings.
    check(unsafe { libc::rename(from.as_ptr(), to.as_ptr()) }).map(drop)
}

/// `chmod(2)`.
pub(crate) fn chmod(name: &[u8], perm: u32) -> Sys<()> {
    let name = path(name)?;
    // SAFETY: a terminated string.
    check(unsafe { libc::chmod(name.as_ptr(), perm) }).map(drop)
}

/// `fchmod(2)`.
pub(crate) fn chmod_fd(fd: RawFd, perm: u32) -> Sys<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::fchmod(fd, perm) }).map(drop)
}

/// `symlink(2)`.
pub(crate) fn symlink(target: &[u8], name: &[u8]) -> Sys<()> {
    let (target, name) = (path(target)?, path(name)?);
    // SAFETY: terminated strings.
    check(unsafe { libc::symlink(target.as_ptr(), name.as_ptr()) }).map(drop)
}

/// `readlink(2)`.
pub(crate) fn read_link(name: &[u8]) -> Sys<Vec<u8>> {
    read_link_at(libc::AT_FDCWD, &path(name)?)
}

/// `readlinkat(2)`.
pub(crate) fn read_link_at(folder: RawFd, name: &CStr) -> Sys<Vec<u8>> {
    let mut target = vec![0_u8; libc::PATH_MAX.unsigned_abs() as usize];
    let room = target.as_mut_ptr().cast();
    // SAFETY: a terminated string, and a buffer of the length given.
    let len = check(unsafe { libc::readlinkat(folder, name.as_ptr(), room, target.len()) })?;
    target.truncate(len.unsigned_abs());
    Ok(target)
}

/// `lseek(2)`.
pub(crate) fn seek(fd: RawFd, offset: i64, whence: i32) -> Sys<u64> {
    // SAFETY: no pointers.
    check(unsafe { libc::lseek(fd, offset, whence) }).map(i64::unsigned_abs)
}

/// `pread(2)`.
pub(crate) fn read_from(fd: RawFd, buffer: &mut [u8], offset: u64) -> Sys<usize> {
    // SAFETY: the buffer is valid for its length.
    let got = check(unsafe {
        libc::pread(
            fd,
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            offset.cast_signed(),
        )
    })?;
    Ok(got.unsigned_abs())
}

/// `chdir(2)`.
pub(crate) fn change_dir(name: &[u8]) -> Sys<()> {
    let name = path(name)?;
    // SAFETY: a terminated string.
    check(unsafe { libc::chdir(name.as_ptr()) }).map(drop)
}

/// `fchdir(2)`.
pub(crate) fn change_dir_to(folder: RawFd) -> Sys<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::fchdir(folder) }).map(drop)
}

/// Makes a folder the process's root and working directory.
pub(crate) fn change_root(folder: RawFd) -> Sys<()> {
    // SAFETY: no pointers but a terminated string.
    unsafe {
        check(libc::fchdir(folder))?;
        check(libc::chroot(c".".as_ptr()))?;
        check(libc::chdir(c"/".as_ptr())).map(drop)
    }
}

/// A stream of what happens to watched files.
pub(crate) fn watcher() -> Sys<OwnedFd> {
    // SAFETY: no pointers.
    check(unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) }).map(own)
}

/// Watches a file or folder for the events of the mask.
pub(crate) fn add_watch(watcher: RawFd, name: &[u8], mask: u32) -> Sys<i32> {
    let name = path(name)?;
    // SAFETY: a terminated string.
    check(unsafe { libc::inotify_add_watch(watcher, name.as_ptr(), mask) })
}
