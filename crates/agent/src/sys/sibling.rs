//! Processes that share the memory of their creator, and nothing else.
//!
//! A fork copies page tables, and every page that either side writes to afterwards, which is most of the
//! time of a short operation. Such a process has its own stack, thread-local storage and allocation arena
//! instead, so that it does not interfere with its creator. It must exit or execute a program without
//! returning, must not take locks, and must not use the C library's allocator.

#![expect(unsafe_code, reason = "runs code on a stack of its own")]

use super::{Errno, Sys, check, memory};
use crate::allocator::Arena;
use std::arch::asm;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

const STACK: usize = 256 * 1024;
/// Size of thread-local storage, below and above the thread pointer.
const TLS: usize = 8192;
/// How much of the C library's thread descriptor, above the thread pointer, is copied. What is behind
/// that is for threads that the C library made.
const DESCRIPTOR: usize = 704;
const ARENA: usize = 64 << 20;

/// Memory of one process. Reused for later ones.
pub(crate) struct Sibling {
    base: *mut u8,
    /// Not 0 while a process uses it; the kernel clears it.
    alive: Box<AtomicU32>,
    task: Option<Box<Task>>,
    /// The thread pointer, once there is storage.
    storage: Option<*mut u8>,
}

/// Whose child a process becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChildOf {
    /// The process that makes it.
    Caller,
    /// That one's parent, which a first process does not have.
    Parent,
}

struct Task {
    work: Box<dyn Fn() + Send>,
    arena: Arena,
}

impl Sibling {
    /// One of these that no process uses, which is added if all are in use.
    pub(crate) fn free_of(siblings: &mut Vec<Self>) -> Sys<&mut Self> {
        let free = siblings.iter().position(Self::is_free);
        let index = match free {
            Some(index) => index,
            None => {
                siblings.push(Self::new()?);
                siblings.len() - 1
            }
        };
        Ok(&mut siblings[index])
    }

    fn new() -> Sys<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: an anonymous mapping at an address of the kernel's choice.
        let base =
            unsafe { libc::mmap(ptr::null_mut(), STACK + TLS + ARENA, access, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        Ok(Self {
            base: base.cast(),
            alive: Box::default(),
            task: None,
            storage: None,
        })
    }

    /// Whether no process uses it.
    pub(crate) fn is_free(&self) -> bool {
        self.alive.load(Ordering::Acquire) == 0
    }

    /// Makes a process that does `work`, which must not return. What `work` owns is dropped here, at some
    /// time after the process has ended.
    pub(crate) fn start(
        &mut self,
        child_of: ChildOf,
        work: impl Fn() + Send + 'static,
    ) -> Sys<i32> {
        let at = |offset: usize| {
            // SAFETY: within the mapping.
            unsafe { self.base.add(offset) }
        };
        let pointer = match self.storage {
            // Nothing in it is older than the process that used it.
            Some(pointer) => pointer,
            None => *self.storage.insert(copy_thread_storage(at(STACK))?),
        };
        let arena = at(STACK + TLS);
        if let Some(task) = self.task.take()
            && task.arena.used() > 256 * 1024
        {
            // SAFETY: the process that used the arena has ended.
            unsafe { libc::madvise(arena.cast(), ARENA, libc::MADV_DONTNEED) };
        }
        let task = self.task.insert(Box::new(Task {
            work: Box::new(work),
            arena: Arena::new(arena, ARENA),
        }));
        let task = ptr::from_mut::<Task>(task);
        let parent = match child_of {
            ChildOf::Caller => 0,
            ChildOf::Parent => libc::CLONE_PARENT,
        };
        let flags = libc::CLONE_VM
            | parent
            | libc::CLONE_SETTLS
            | libc::CLONE_CHILD_CLEARTID
            | libc::SIGCHLD;
        self.alive.store(1, Ordering::Release);
        // SAFETY: stack, storage and task are this process's alone until it has cleared `alive`.
        let started = check(unsafe {
            libc::clone(
                in_sibling,
                at(STACK).cast(),
                flags,
                task.cast(),
                ptr::null_mut::<c_int>(),
                pointer.cast::<c_void>(),
                self.alive.as_ptr(),
            )
        });
        if started.is_err() {
            self.alive.store(0, Ordering::Release);
        }
        started
    }
}

/// Copies this thread's storage; the new thread pointer.
fn copy_thread_storage(place: *mut u8) -> Sys<*mut u8> {
    let own: usize;
    // SAFETY: the first word behind the thread pointer is that pointer.
    unsafe { asm!("mov {}, fs:0", out(reg) own, options(nostack, readonly)) };
    // SAFETY: within the mapping.
    let pointer = unsafe { place.add(TLS / 2) };
    // How much there is below is known to the linker only; more than what is mapped it is not.
    let mut below = TLS / 2;
    let found = loop {
        match memory::read_at((own - below) as u64, below) {
            Ok(bytes) => break bytes,
            Err(errno) if below <= 64 => return Err(errno),
            Err(_) => below = (own % 4096).min(below / 2).max(64),
        }
    };
    // SAFETY: both parts are within the mapping; the descriptor is at least so long.
    unsafe {
        ptr::copy_nonoverlapping(found.as_ptr(), pointer.sub(found.len()), found.len());
        let descriptor = ptr::with_exposed_provenance::<u8>(own);
        ptr::copy_nonoverlapping(descriptor, pointer, DESCRIPTOR);
        // The descriptor names itself twice.
        pointer.cast::<*mut u8>().write(pointer);
        pointer.cast::<*mut u8>().add(2).write(pointer);
    }
    Ok(pointer)
}

extern "C" fn in_sibling(task: *mut c_void) -> c_int {
    // SAFETY: `start` has made it, and keeps it while this process lives.
    let task = unsafe { &*task.cast::<Task>() };
    task.arena.enter();
    (task.work)();
    super::process::exit(127)
}
