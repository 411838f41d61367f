//! The guest's side of disks: the kernel's caches and partitions, links to device nodes, mounts.
//!
//! ```text
//!   find the devices by serial number (load the driver, wait for a hot-plug, for their sizes)
//!     ─▶ replaced ones: drop caches, read partitions again ─▶ links ─▶ mounts ─▶ have udev look
//! ```
//!
//! A disk that a guest has in its template is another one after the restore: the same device has another
//! serial number, size and content. The device reads its serial number from the host each time, so the new
//! one is there at once. The size comes with an interrupt, which the kernel handles later.
//!
//! A request is the whole wanted state. One that changes nothing lists two folders and reads two small
//! files of each disk.
//!
//! It runs in a process of its own, in the root of process 1, since it may wait for the kernel, for the host
//! and for file systems, unless it waits for nothing; see `router/configuration_tasks.rs`.
//!
//! Decisions:
//! - The links in `/dev/disk/by-id` are made here in any guest, with the names and targets that udev gives
//!   them. So they are there when the reply comes, and udev, where it runs, changes nothing about them.
//! - A link is removed if its device is gone, or has another serial number now.
//! - What need not be asked of the kernel is not. In a guest that has just been restored, QEMU has to translate all of
//!   the kernel's code that runs, so each kind of access takes milliseconds the first time. A replaced disk is searched
//!   for partitions only if the host has found that its first sector holds anything, or if it had partitions. In a
//!   guest that only the host has used, the devices are those of the last request, and so are the links.
//! - A device that is in use, such as by a mount, is not refreshed: its cache may hold what is to be written,
//!   which belongs to the content that is gone.

mod devices;
mod links;
mod mounts;
mod refresh;
mod set;
mod wait;

pub(crate) use set::{modules, set, set_at_once};
pub(crate) use wait::await_disk;
