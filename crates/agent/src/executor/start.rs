//! Starting the executor, in a process that the router has just forked.

use super::io_loop::IoLoop;
use super::owner::{self, Owner};
use super::root::Root;
use super::shared::Shared;
use crate::roots;
use crate::sys::area::{self, Area};
use crate::sys::signal::{self, SignalStream};
use crate::sys::{fd, process};
use provium_protocol::Lane;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// Numbers that are unique within one router.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers {
    lane: u32,
    generation: u64,
}

impl Numbers {
    /// How many workers one executor may start before its numbers meet those of the next.
    const LANES: u32 = 1 << 20;

    /// Those of the router's executor of this number.
    pub(crate) fn of_executor(number: u32) -> Self {
        Self {
            lane: Lane::FIRST_WORKER.0 + (number % 4000) * Self::LANES,
            generation: u64::from(number) << 32,
        }
    }

    pub(super) fn next_lane(&mut self) -> Lane {
        let lane = Lane(self.lane);
        self.lane += 1;
        lane
    }

    pub(super) fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }
}

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
    let vm = Arc::new(Owner::new(Lane::VM, area, root, Vec::new()));
    shared.add_owner(&vm);
    if owner::start_thread(&shared, &vm).is_err() {
        process::exit(1);
    }
    IoLoop::new(shared, children).run()
}
