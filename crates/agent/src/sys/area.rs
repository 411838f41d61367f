//! Memory that the executor shares with the raw processes and their children.
//!
//! One mapping, made before the first raw process is forked, holds an [`Area`] for each owner (the VM
//! and every worker):
//!
//! ```text
//!  header │ threads │ slots │ buffers of raw calls │ guard │ payloads
//! ```
//!
//! The *bell* of the header is a futex word that a process with an event increments; the executor's
//! thread for that owner waits on it. A *request* is posted in the header and answered there by the raw
//! process. A [slot](super::slot) belongs to one operation process, a *thread cell* to one asynchronous raw call.
//!
//! The executor does not trust the contents, since a test's raw calls can write to this memory.
//! Indices and lengths are checked where they are read.
//!
//! Long because the layout and both sides' views of it belong together.

#![expect(unsafe_code, reason = "typed views of a shared mapping")]

use super::slot::Slot;
use super::{Errno, Sys, futex};
use std::ptr::{self, NonNull};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering};

const PAGE: usize = 4096;
/// Owners at a time: the VM and its workers.
pub(crate) const AREAS: usize = 400;
const STRIDE: usize = 1 << 20;

const THREADS_AT: usize = PAGE;
/// Asynchronous raw calls of one owner at a time.
pub(crate) const THREADS: usize = 1536;
const SLOTS_AT: usize = THREADS_AT + THREADS * size_of::<ThreadCell>();
/// Operations of one owner that are being started, or have no channels, at a time.
pub(crate) const SLOTS: usize = 768;
const BUFFERS_AT: usize = SLOTS_AT + SLOTS * size_of::<Slot>();
/// Size of the buffers of one raw call; larger ones get a mapping of their own.
pub(crate) const BUFFERS: usize = 128 * 1024;
const GUARD_AT: usize = BUFFERS_AT + BUFFERS;
const PAYLOAD_AT: usize = GUARD_AT + PAGE;
/// Size of the payload of one request.
pub(crate) const PAYLOAD: usize = 128 * 1024;

const _: () = assert!(PAYLOAD_AT + PAYLOAD <= STRIDE);
const _: () = assert!(BUFFERS_AT.is_multiple_of(PAGE) && size_of::<Header>() <= PAGE);

/// Requests to a raw process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Code {
    /// Makes a raw call: number and six arguments.
    Call = 1,
    /// Maps memory for buffers: length, alignment.
    Map = 2,
    /// Unmaps it: address, length.
    Unmap = 3,
    /// Forks an operation process: slot, ticket, address and length of the payload.
    Fork = 4,
    /// Makes a raw call on a further thread: cell; the cell has number and arguments.
    Thread = 5,
    /// Forks a worker: slot, ticket, address and length of the payload, index of its area.
    Worker = 6,
    /// Maps memory for a payload: length.
    Load = 7,
    /// Opens a file, unless that may block: address of the path, flags, permission bits.
    Open = 8,
    /// Changes its root to the folder of a descriptor of the executor: process, descriptor.
    Root = 9,
}

impl Code {
    fn of(number: u32) -> Option<Self> {
        [
            Self::Call,
            Self::Map,
            Self::Unmap,
            Self::Fork,
            Self::Thread,
            Self::Worker,
            Self::Load,
            Self::Open,
            Self::Root,
        ]
        .into_iter()
        .find(|code| *code as u32 == number)
    }
}

/// The result of [`Code::Open`] for a file whose opening may block.
pub(crate) const WOULD_WAIT: i64 = -10_000;

#[repr(C)]
struct Header {
    bell: AtomicU32,
    request: AtomicU32,
    reply: AtomicU32,
    code: AtomicU32,
    arguments: [AtomicI64; 8],
    result: AtomicI64,
    // The kernel's `struct robust_list_head`, and one entry.
    list_next: AtomicUsize,
    list_offset: AtomicI64,
    list_pending: AtomicUsize,
    entry_next: AtomicUsize,
    owner: AtomicU32,
    adopted: AtomicU32,
}

/// One asynchronous raw call.
#[repr(C, align(128))]
pub(crate) struct ThreadCell {
    pub(crate) state: AtomicU32,
    /// Not 0 while the thread exists; the kernel clears it.
    pub(crate) alive: AtomicU32,
    pub(crate) result: AtomicI64,
    pub(crate) nr: AtomicI64,
    pub(crate) arguments: [AtomicI64; 6],
}

/// States of a [`ThreadCell`].
pub(crate) mod thread_state {
    pub(crate) const FREE: u32 = 0;
    pub(crate) const STARTED: u32 = 1;
    pub(crate) const DONE: u32 = 2;
}

/// The shared memory of one owner.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Area {
    base: NonNull<u8>,
    pub(crate) index: usize,
}

// SAFETY: everything in an area is atomic, or written and read in turns as its protocol says.
unsafe impl Send for Area {}
// SAFETY: as above.
unsafe impl Sync for Area {}

struct Mapping(NonNull<u8>);

// SAFETY: an address that is never unmapped by the executor.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

static MAPPING: OnceLock<Mapping> = OnceLock::new();

/// Maps all areas. For the executor, before it forks anything.
pub(crate) fn map_all() -> Sys<()> {
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: an anonymous mapping at an address of the kernel's choice.
    let base = unsafe { libc::mmap(ptr::null_mut(), AREAS * STRIDE, access, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    let base = NonNull::new(base.cast()).ok_or(Errno::FAULT)?;
    let _ = MAPPING.set(Mapping(base));
    Ok(())
}

impl Area {
    /// The area of this index.
    pub(crate) fn of(index: usize) -> Option<Self> {
        let mapping = MAPPING.get()?;
        if index >= AREAS {
            return None;
        }
        // SAFETY: within the mapping.
        let base = unsafe { mapping.0.add(index * STRIDE) };
        Some(Self { base, index })
    }

    /// Empties it for the next owner, and gives its memory back.
    pub(crate) fn empty(self) {
        // SAFETY: the whole of this area; shared anonymous memory reads as zero afterwards.
        unsafe { libc::madvise(self.base.as_ptr().cast(), STRIDE, libc::MADV_REMOVE) };
    }

    /// Unmaps the areas of other owners. For a worker's raw process.
    pub(crate) fn keep_only_this(self) {
        let Some(mapping) = MAPPING.get() else { return };
        let before = self.index * STRIDE;
        let after = (self.index + 1) * STRIDE;
        // SAFETY: this process has no use for them.
        unsafe {
            if before > 0 {
                libc::munmap(mapping.0.as_ptr().cast(), before);
            }
            if after < AREAS * STRIDE {
                libc::munmap(mapping.0.add(after).as_ptr().cast(), AREAS * STRIDE - after);
            }
        }
    }

    /// Makes a write past the end of the buffers fail instead of reaching the payload.
    pub(crate) fn guard_buffers(self) {
        // SAFETY: a page of this area that is not in use.
        unsafe {
            let guard = self.base.add(GUARD_AT).as_ptr();
            libc::mprotect(guard.cast(), PAGE, libc::PROT_NONE);
        }
    }

    fn header(&self) -> &'static Header {
        // SAFETY: aligned, large enough, zeroed, and mapped for as long as the process lives.
        unsafe { self.base.cast::<Header>().as_ref() }
    }

    pub(crate) fn thread(self, index: usize) -> &'static ThreadCell {
        let index = index.min(THREADS - 1);
        // SAFETY: as above; the index is within bounds.
        unsafe {
            self.base
                .add(THREADS_AT)
                .cast::<ThreadCell>()
                .add(index)
                .as_ref()
        }
    }

    pub(crate) fn slot(self, index: usize) -> &'static Slot {
        let index = index.min(SLOTS - 1);
        // SAFETY: as above; the index is within bounds.
        unsafe { self.base.add(SLOTS_AT).cast::<Slot>().add(index).as_ref() }
    }

    /// The address of the buffers, the same in every process.
    pub(crate) fn buffers(self) -> u64 {
        (self.base.as_ptr().addr() + BUFFERS_AT) as u64
    }

    /// The address of the payload, the same in every process.
    pub(crate) fn payload(self) -> u64 {
        (self.base.as_ptr().addr() + PAYLOAD_AT) as u64
    }

    fn range(self, start: usize, limit: usize, offset: usize, len: usize) -> Option<NonNull<u8>> {
        let end = offset.checked_add(len)?;
        // SAFETY: within the area.
        (end <= limit).then(|| unsafe { self.base.add(start + offset) })
    }

    /// Copies bytes to an offset of the buffers.
    pub(crate) fn put_buffer(self, offset: usize, bytes: &[u8]) -> Sys<()> {
        let to = self
            .range(BUFFERS_AT, BUFFERS, offset, bytes.len())
            .ok_or(Errno::FAULT)?;
        // SAFETY: within the buffers, which no call uses now.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to.as_ptr(), bytes.len()) };
        Ok(())
    }

    /// Zeroes the first bytes of the buffers.
    pub(crate) fn clear_buffers(self, len: usize) {
        if let Some(start) = self.range(BUFFERS_AT, BUFFERS, 0, len) {
            // SAFETY: within the buffers.
            unsafe { ptr::write_bytes(start.as_ptr(), 0, len) };
        }
    }

    /// A copy of a part of the buffers.
    pub(crate) fn get_buffer(self, offset: usize, len: usize) -> Vec<u8> {
        let Some(from) = self.range(BUFFERS_AT, BUFFERS, offset, len) else {
            return Vec::new();
        };
        let mut bytes = vec![0; len];
        // SAFETY: within the buffers.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), bytes.as_mut_ptr(), len) };
        bytes
    }

    /// Copies a payload into its place; false when it is too long.
    pub(crate) fn put_payload(self, bytes: &[u8]) -> bool {
        let Some(to) = self.range(PAYLOAD_AT, PAYLOAD, 0, bytes.len()) else {
            return false;
        };
        // SAFETY: within the payload, which no request uses now.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to.as_ptr(), bytes.len()) };
        true
    }

    // The bell.

    pub(crate) fn bell(self) -> u32 {
        self.header().bell.load(Ordering::Acquire)
    }

    pub(crate) fn ring(self) {
        self.header().bell.fetch_add(1, Ordering::AcqRel);
        futex::wake(&self.header().bell);
    }

    /// Waits until the bell has rung since `heard`, a signal came, or the time is up.
    pub(crate) fn await_bell(self, heard: u32, timeout: Option<std::time::Duration>) {
        futex::wait(&self.header().bell, heard, timeout);
    }

    /// Marks the worker that will serve this area as started.
    pub(crate) fn adopt(self) {
        self.header().adopted.store(1, Ordering::SeqCst);
    }

    pub(crate) fn is_adopted(self) -> bool {
        self.header().adopted.load(Ordering::SeqCst) != 0
    }

    // Requests.

    /// Posts a request, which must be the only one.
    pub(crate) fn post(self, code: Code, arguments: &[i64]) {
        let header = self.header();
        for (to, from) in header.arguments.iter().zip(arguments) {
            to.store(*from, Ordering::Relaxed);
        }
        header.code.store(code as u32, Ordering::Relaxed);
        header.request.fetch_add(1, Ordering::AcqRel);
        futex::wake(&header.request);
    }

    /// The result of the request that was posted last.
    pub(crate) fn reply(self) -> Option<i64> {
        let header = self.header();
        let request = header.request.load(Ordering::Relaxed);
        (header.reply.load(Ordering::Acquire) == request)
            .then(|| header.result.load(Ordering::Relaxed))
    }

    /// Forgets a request that will not be answered.
    pub(crate) fn withdraw(self) {
        let header = self.header();
        let request = header.request.load(Ordering::Relaxed);
        header.reply.store(request, Ordering::Release);
    }

    /// Waits for a request. For the raw process.
    pub(crate) fn await_request(self) -> (Option<Code>, [i64; 8]) {
        let header = self.header();
        loop {
            let done = header.reply.load(Ordering::Relaxed);
            if header.request.load(Ordering::Acquire) != done {
                break;
            }
            futex::wait(&header.request, done, None);
        }
        let code = Code::of(header.code.load(Ordering::Relaxed));
        let mut arguments = [0; 8];
        for (to, from) in arguments.iter_mut().zip(&header.arguments) {
            *to = from.load(Ordering::Relaxed);
        }
        (code, arguments)
    }

    /// Answers it, and rings the bell. `forked` is the slot of the process that the request has forked: if
    /// that process has not rung yet, its bell is sufficient. On a busy processor it can be ahead of this one.
    pub(crate) fn answer(self, result: i64, forked: Option<usize>) {
        let header = self.header();
        header.result.store(result, Ordering::Relaxed);
        let request = header.request.load(Ordering::Relaxed);
        // Before the look at the slot, whose process changes the slot before it rings.
        header.reply.store(request, Ordering::SeqCst);
        if !forked.is_some_and(|index| self.slot(index).has_yet_to_ring()) {
            self.ring();
        }
    }

    // Whether the raw process is still this program.

    /// Has the kernel mark the area when this thread ends or becomes another program.
    pub(crate) fn mark_at_end(self, tid: i32) {
        let header = self.header();
        let at = |field: *const u8| field.addr();
        let head = at((&raw const header.list_next).cast());
        let entry = at((&raw const header.entry_next).cast());
        let word = at((&raw const header.owner).cast());
        header.owner.store(tid.cast_unsigned(), Ordering::Relaxed);
        header.entry_next.store(head, Ordering::Relaxed);
        header.list_next.store(entry, Ordering::Relaxed);
        let offset = i64::try_from(word - entry).unwrap_or(0);
        header.list_offset.store(offset, Ordering::Relaxed);
        header.list_pending.store(0, Ordering::Relaxed);
        // SAFETY: a list of one entry in memory that stays, of the size that the kernel expects.
        unsafe { libc::syscall(libc::SYS_set_robust_list, head, 24_usize) };
    }

    /// Whether the thread has ended, or its process is another program now.
    pub(crate) fn has_ended(self) -> bool {
        const OWNER_DIED: u32 = 0x4000_0000;
        self.header().owner.load(Ordering::Acquire) & OWNER_DIED != 0
    }

    pub(crate) fn forget_end(self) {
        self.header().owner.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::super::slot::{SlotState, Ticket};
    use super::*;

    #[test]
    fn an_answer_rings_unless_the_forked_process_will() {
        map_all().unwrap();
        let area = Area::of(1).unwrap();
        let slot = area.slot(0);
        let ticket = Ticket::next();
        slot.expect(ticket);
        let heard = area.bell();

        area.answer(99, Some(0));
        assert_eq!(area.bell(), heard, "the process has not begun");
        assert!(slot.begin(ticket, 99));
        area.answer(99, Some(0));
        assert_eq!(area.bell(), heard, "the process has not offered its pipes");

        assert!(slot.advance(ticket, SlotState::Offered));
        area.answer(99, Some(0));
        assert_ne!(area.bell(), heard, "the process may have rung already");
    }

    #[test]
    fn an_answer_without_a_process_rings() {
        map_all().unwrap();
        let area = Area::of(2).unwrap();
        let heard = area.bell();
        area.answer(0, None);
        assert_ne!(area.bell(), heard);
    }
}
