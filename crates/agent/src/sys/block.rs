//! Block devices, and mounts in the tree.

#![expect(unsafe_code, reason = "ioctl and mount calls of the kernel")]

use super::file::path;
use super::{Sys, check};
use std::os::fd::RawFd;
use std::ptr;

/// `BLKRRPART` and `BLKFLSBUF` of the kernel's `include/uapi/linux/fs.h`.
const READ_PARTITIONS: libc::c_ulong = 0x125f;
const FLUSH_BUFFERS: libc::c_ulong = 0x1261;

/// Writes back what is cached of a block device, and drops it.
pub(crate) fn flush_buffers(device: RawFd) -> Sys<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::ioctl(device, FLUSH_BUFFERS as _, 0) }).map(drop)
}

/// Has the kernel read the partition table of a block device.
pub(crate) fn read_partitions(device: RawFd) -> Sys<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::ioctl(device, READ_PARTITIONS as _, 0) }).map(drop)
}

/// Moves a mount to another place.
pub(crate) fn move_mount(from: &str, to: &str) -> Sys<()> {
    place(from, to, libc::MS_MOVE)
}

/// Makes a folder visible at another place.
pub(crate) fn bind(from: &str, to: &str) -> Sys<()> {
    place(from, to, libc::MS_BIND)
}

fn place(from: &str, to: &str, flags: u64) -> Sys<()> {
    let (from, to) = (path(from.as_bytes())?, path(to.as_bytes())?);
    // SAFETY: terminated strings; the others are not looked at for these flags.
    check(unsafe { libc::mount(from.as_ptr(), to.as_ptr(), ptr::null(), flags, ptr::null()) })
        .map(drop)
}

/// Mounts the file system of a block device.
pub(crate) fn mount(source: &str, target: &str, filesystem: &str, flags: u64) -> Sys<()> {
    let [source, target, filesystem] =
        [source, target, filesystem].map(|text| path(text.as_bytes()));
    let (source, target, filesystem) = (source?, target?, filesystem?);
    // SAFETY: terminated strings, and no options.
    check(unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            filesystem.as_ptr(),
            flags,
            ptr::null(),
        )
    })
    .map(drop)
}
