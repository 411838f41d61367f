//! Starting the executor, in a process that the router has just forked.

use super::event_loop::EventLoop;
use super::numbers::Numbers;
use super::owner::Owner;
use super::owners::Owners;
use super::root::Root;
use super::shared::Shared;
use crate::roots;
use crate::sys::area::{self, Area};
use crate::sys::signal::{self, SignalStream};
use crate::sys::{fd, process};
use provium_protocol::Lane;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// Becomes the executor. `socket` leads to the router.
pub(crate) fn run(socket: OwnedFd, root: Root, numbers: Numbers) -> ! {
    if fd::copy_to(socket.as_raw_fd(), roots::SOCKET).is_err() {
        process::exit(1);
    }
    // It is closed along with everything else that was the router's.
    std::mem::forget(socket);
    fd::close_range(3, roots::FIRST_OWN - 1);
    fd::close_range(roots::FIRST_FREE, i32::MAX);
    process::new_session();
    process::name_thread(c"provium-exec");
    signal::default_dispositions();
    signal::install_interrupt();
    signal::block_all();
    let limits = process::limit_of(0, libc::RLIMIT_NOFILE);
    process::raise_descriptor_limit();
    let ready = || {
        area::map_all()?;
        let shared = Arc::new(Shared::new(root, numbers, limits?)?);
        Ok::<_, crate::sys::Errno>((shared, SignalStream::of(&[libc::SIGCHLD])?))
    };
    let (Ok((shared, children)), Some(area)) = (ready(), Area::of(0)) else {
        process::exit(1)
    };
    let vm = Owner::new(Lane::VM, area, root, Vec::new());
    let mut owners = Owners::default();
    if owners.add(&shared, Arc::new(vm)).is_err() {
        process::exit(1);
    }
    EventLoop::new(shared, owners, children).run()
}
