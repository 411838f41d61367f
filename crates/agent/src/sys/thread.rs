//! Threads of a raw process. Each makes one call and ends. It has no thread-local storage of its own,
//! so it uses nothing of the C library.

#![expect(unsafe_code, reason = "runs code on a stack of its own")]

use super::area::{Area, ThreadCell, thread_state};
use super::{Errno, Sys, check, raw};
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::Ordering;

const SIZE: usize = 16 * 1024;

/// Memory for the stack of a thread; never unmapped while the process lives.
pub(crate) struct Stack(*mut u8);

impl Stack {
    pub(crate) fn map() -> Sys<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: an anonymous mapping at an address of the kernel's choice.
        let base = unsafe { libc::mmap(ptr::null_mut(), SIZE, access, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        Ok(Self(base.cast()))
    }
}

/// What the thread finds at the top of its stack.
struct Task {
    area: Area,
    cell: &'static ThreadCell,
}

/// Starts a thread that makes the call of a cell; returns its id.
pub(crate) fn start(
    stack: &Stack,
    area: Area,
    _index: usize,
    cell: &'static ThreadCell,
) -> Sys<i32> {
    let flags = libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM
        | libc::CLONE_CHILD_CLEARTID;
    cell.alive.store(1, Ordering::Release);
    // SAFETY: the stack is mapped, used by one thread at a time, and large enough for the task at its
    // top and for the thread, which clears `alive` when it is done with both.
    let started = unsafe {
        let top = stack.0.add(SIZE - 64);
        top.cast::<Task>().write(Task { area, cell });
        check(libc::clone(
            in_thread,
            top.cast(),
            flags,
            top.cast(),
            ptr::null_mut::<c_int>(),
            ptr::null_mut::<c_void>(),
            cell.alive.as_ptr(),
        ))
    };
    if started.is_err() {
        cell.alive.store(0, Ordering::Release);
    }
    started
}

extern "C" fn in_thread(task: *mut c_void) -> c_int {
    // SAFETY: `start` has put it there.
    let task = unsafe { &*task.cast::<Task>() };
    let cell = task.cell;
    let mut args = [0; 6];
    for (to, from) in args.iter_mut().zip(&cell.arguments) {
        *to = from.load(Ordering::Relaxed);
    }
    // A child that asked to die with this thread would do so at once.
    let result = raw::syscall(cell.nr.load(Ordering::Relaxed), args, false);
    cell.result.store(result, Ordering::Relaxed);
    cell.state.store(thread_state::DONE, Ordering::Release);
    task.area.ring();
    raw::bare(libc::SYS_exit, [0; 6]);
    0
}
