//! The agent's allocator.
//!
//! A raw process is forked from the executor, which has several threads, by a bare `clone(2)`. Whatever
//! lock another thread holds at that moment stays locked in the child for ever; so the one lock that
//! every thread takes all the time has to be held by the thread that forks: see [`while_quiet`]. The C
//! library's allocator offers no such thing.
//!
//! An operation process that shares the memory of its raw process may be killed at any time, so it takes
//! no lock at all: it has an [`Arena`] of its own.
//!
//! Powers of two from 16 bytes to 256 KiB come from free lists that are never given back; what is
//! larger is mapped and unmapped.

#![expect(unsafe_code, reason = "hands out memory")]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::{Cell, UnsafeCell};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator {
    lock: Lock(AtomicU32::new(0)),
    state: UnsafeCell::new(State {
        free: [ptr::null_mut(); CLASSES],
        bump: ptr::null_mut(),
        left: 0,
    }),
};

const SMALLEST: usize = 16;
const CLASSES: usize = 15;
const LARGEST: usize = SMALLEST << (CLASSES - 1);
/// What is mapped at a time; pages that are not touched take no memory.
const REGION: usize = 1 << 20;
const PAGE: usize = 4096;

/// Runs `action` while no other thread is inside the allocator. It must not allocate.
pub(crate) fn while_quiet<R>(action: impl FnOnce() -> R) -> R {
    ALLOCATOR.lock.take();
    let result = action();
    ALLOCATOR.lock.release();
    result
}

/// Memory for one process, given out from its start to its end and never taken back.
pub(crate) struct Arena {
    start: *mut u8,
    len: usize,
    used: Cell<usize>,
}

// SAFETY: one process uses it at a time.
unsafe impl Send for Arena {}

thread_local! {
    /// The arena of this thread; null: the common allocator.
    static ENTERED: Cell<*const Arena> = const { Cell::new(ptr::null()) };
}

impl Arena {
    pub(crate) fn new(start: *mut u8, len: usize) -> Self {
        Self {
            start,
            len,
            used: Cell::new(0),
        }
    }

    /// Has this thread use it from now on.
    pub(crate) fn enter(&self) {
        ENTERED.set(ptr::from_ref(self));
    }

    pub(crate) fn used(&self) -> usize {
        self.used.get()
    }

    fn take(&self, layout: &Layout) -> *mut u8 {
        let start = self.used.get().next_multiple_of(layout.align().max(16));
        let end = start + layout.size();
        if end > self.len {
            return map(layout.size());
        }
        self.used.set(end);
        // SAFETY: within the arena.
        unsafe { self.start.add(start) }
    }
}

/// The arena of this thread.
fn entered() -> Option<&'static Arena> {
    // SAFETY: it lives for as long as the process that entered it.
    unsafe { ENTERED.get().as_ref() }
}

struct Allocator {
    lock: Lock,
    state: UnsafeCell<State>,
}

// SAFETY: the state is touched under the lock only.
unsafe impl Sync for Allocator {}

struct State {
    /// For each class, a list of free blocks, each holding the address of the next.
    free: [*mut u8; CLASSES],
    bump: *mut u8,
    left: usize,
}

/// The free list for a size; `None`: too large for one.
fn class_of(layout: &Layout) -> Option<usize> {
    let size = layout
        .size()
        .max(layout.align())
        .max(SMALLEST)
        .next_power_of_two();
    (size <= LARGEST).then(|| (size / SMALLEST).trailing_zeros() as usize)
}

fn map(len: usize) -> *mut u8 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: an anonymous mapping at an address of the kernel's choice.
    let address = unsafe { libc::mmap(ptr::null_mut(), len, access, flags, -1, 0) };
    if address == libc::MAP_FAILED {
        ptr::null_mut()
    } else {
        address.cast()
    }
}

impl State {
    fn take(&mut self, class: usize) -> *mut u8 {
        let head = self.free[class];
        if !head.is_null() {
            // SAFETY: a free block holds the address of the next free one.
            self.free[class] = unsafe { head.cast::<*mut u8>().read() };
            return head;
        }
        let size = SMALLEST << class;
        // Blocks are aligned to their size, up to a page.
        let align = size.min(PAGE);
        let pad = self.bump.addr().wrapping_neg() & (align - 1);
        if self.left < pad + size {
            self.bump = map(REGION);
            self.left = if self.bump.is_null() { 0 } else { REGION };
            if self.left == 0 {
                return ptr::null_mut();
            }
            return self.cut(0, size);
        }
        self.cut(pad, size)
    }

    fn cut(&mut self, pad: usize, size: usize) -> *mut u8 {
        // SAFETY: the caller saw that so much is left of the region.
        let block = unsafe { self.bump.add(pad) };
        // SAFETY: as above.
        self.bump = unsafe { block.add(size) };
        self.left -= pad + size;
        block
    }

    fn give(&mut self, class: usize, block: *mut u8) {
        // SAFETY: the block is free and at least 16 bytes long.
        unsafe { block.cast::<*mut u8>().write(self.free[class]) };
        self.free[class] = block;
    }
}

// SAFETY: blocks are unique until given back, at least as large and aligned as asked for (an
// alignment over a page is refused).
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() > PAGE {
            return ptr::null_mut();
        }
        if let Some(arena) = entered() {
            return arena.take(&layout);
        }
        let Some(class) = class_of(&layout) else {
            return map(layout.size());
        };
        self.lock.take();
        // SAFETY: under the lock.
        let block = unsafe { (*self.state.get()).take(class) };
        self.lock.release();
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if entered().is_some() {
            return;
        }
        let Some(class) = class_of(&layout) else {
            // SAFETY: mapped by `alloc` with this very size.
            unsafe { libc::munmap(block.cast(), layout.size()) };
            return;
        };
        self.lock.take();
        // SAFETY: under the lock.
        unsafe { (*self.state.get()).give(class, block) };
        self.lock.release();
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller keeps to the rules of `GlobalAlloc::realloc`.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        if let Some(arena) = entered() {
            let fresh = arena.take(&wanted);
            if !fresh.is_null() {
                // SAFETY: both blocks are at least so long, and do not overlap.
                unsafe { ptr::copy_nonoverlapping(block, fresh, layout.size().min(size)) };
            }
            return fresh;
        }
        match (class_of(&layout), class_of(&wanted)) {
            (Some(old), Some(new)) if old == new => block,
            (None, None) => {
                // SAFETY: the block is a mapping of its own.
                let moved = unsafe {
                    libc::mremap(block.cast(), layout.size(), size, libc::MREMAP_MAYMOVE)
                };
                if moved == libc::MAP_FAILED {
                    ptr::null_mut()
                } else {
                    moved.cast()
                }
            }
            _ => {
                // SAFETY: as the caller promised; the blocks do not overlap.
                unsafe {
                    let fresh = self.alloc(wanted);
                    if !fresh.is_null() {
                        ptr::copy_nonoverlapping(block, fresh, layout.size().min(size));
                        self.dealloc(block, layout);
                    }
                    fresh
                }
            }
        }
    }
}

/// 0: free, 1: taken, 2: taken and a thread waits.
struct Lock(AtomicU32);

impl Lock {
    fn take(&self) {
        if self
            .0
            .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
        {
            return;
        }
        while self.0.swap(2, Ordering::Acquire) != 0 {
            // SAFETY: the word lives for ever.
            unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    self.0.as_ptr(),
                    libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                    2,
                    ptr::null::<libc::timespec>(),
                );
            }
        }
    }

    fn release(&self) {
        if self.0.swap(0, Ordering::Release) == 2 {
            // SAFETY: the word lives for ever.
            unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    self.0.as_ptr(),
                    libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                    1,
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_gets_the_smallest_class_that_holds_it() {
        let class = |size, align| class_of(&Layout::from_size_align(size, align).unwrap());
        assert_eq!(class(1, 1), Some(0));
        assert_eq!(class(17, 1), Some(1));
        assert_eq!(class(8, 64), Some(2));
        assert_eq!(class(LARGEST, 1), Some(CLASSES - 1));
        assert_eq!(class(LARGEST + 1, 1), None);
    }

    #[test]
    fn blocks_keep_their_content_while_they_grow_and_shrink() {
        let mut bytes: Vec<u8> = Vec::new();
        for at in 0..700_000_u32 {
            bytes.push(at.to_le_bytes()[0]);
        }
        bytes.truncate(1000);
        bytes.shrink_to_fit();
        assert!(
            bytes
                .iter()
                .enumerate()
                .all(|(at, byte)| *byte == at.to_le_bytes()[0])
        );
    }
}
