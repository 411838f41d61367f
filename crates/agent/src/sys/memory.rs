//! Memory that raw syscalls work on.

#![expect(
    unsafe_code,
    reason = "maps memory and copies to addresses that a test names"
)]

use super::{Errno, Sys, check};
use std::ptr::{self, NonNull};

const PAGE: usize = 4096;

/// Zeroed pages with an unmapped one behind them, so that a call that writes past the end gets
/// `EFAULT` instead of memory that is in use.
#[derive(Debug)]
pub(crate) struct Region {
    base: NonNull<u8>,
    #[cfg(test)]
    len: usize,
    /// What was mapped: its start and length.
    mapping: (NonNull<u8>, usize),
}

// SAFETY: the region is plain memory that this value alone owns.
unsafe impl Send for Region {}

impl Region {
    /// At least `len` bytes, at a multiple of `align` (a power of two).
    pub(crate) fn map(len: usize, align: usize) -> Sys<Self> {
        let len = len.max(1).next_multiple_of(PAGE);
        let slack = if align > PAGE { align } else { 0 };
        let total = len + PAGE + slack;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: an anonymous mapping at an address of the kernel's choice.
        let start = unsafe { libc::mmap(ptr::null_mut(), total, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let Some(start) = NonNull::new(start.cast::<u8>()) else {
            return Err(Errno::FAULT);
        };
        let skipped = start.addr().get().wrapping_neg() & (align.max(PAGE) - 1);
        // SAFETY: at most `slack` bytes in.
        let base = unsafe { start.add(skipped) };
        let region = Self {
            base,
            #[cfg(test)]
            len,
            mapping: (start, total),
        };
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the pages were mapped just now; at least one stays behind them.
        check(unsafe { libc::mprotect(base.as_ptr().cast(), len, access) })?;
        Ok(region)
    }

    /// Bytes in it.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.len
    }

    /// The address of an offset.
    pub(crate) fn address(&self, offset: usize) -> u64 {
        (self.base.as_ptr().addr() + offset) as u64
    }

    /// Copies `bytes` to `offset`.
    #[cfg(test)]
    pub(crate) fn put(&self, offset: usize, bytes: &[u8]) -> Sys<()> {
        if offset
            .checked_add(bytes.len())
            .is_none_or(|end| end > self.len)
        {
            return Err(Errno::FAULT);
        }
        // SAFETY: inside the mapping, which nothing else in this process refers to.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.base.as_ptr().add(offset), bytes.len());
        }
        Ok(())
    }

    /// Zeroes `len` bytes at `offset`.
    #[cfg(test)]
    pub(crate) fn clear(&self, offset: usize, len: usize) {
        let end = offset.saturating_add(len).min(self.len);
        if offset < end {
            // SAFETY: inside the mapping.
            unsafe { ptr::write_bytes(self.base.as_ptr().add(offset), 0, end - offset) };
        }
    }

    /// A copy of `len` bytes at `offset`.
    #[cfg(test)]
    pub(crate) fn get(&self, offset: usize, len: usize) -> Vec<u8> {
        let end = offset.saturating_add(len).min(self.len);
        let mut bytes = vec![0; end.saturating_sub(offset)];
        // SAFETY: inside the mapping; only the kernel may have written there.
        unsafe {
            ptr::copy_nonoverlapping(
                self.base.as_ptr().add(offset),
                bytes.as_mut_ptr(),
                bytes.len(),
            );
        }
        bytes
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this size.
        unsafe { libc::munmap(self.mapping.0.as_ptr().cast(), self.mapping.1) };
    }
}

/// Which way bytes go.
enum Copy {
    In,
    Out,
}

/// Copies between a buffer and any address of a process, without faulting.
fn copy(pid: i32, address: u64, buffer: *mut u8, len: usize, way: &Copy) -> Sys<()> {
    let mut done = 0;
    while done < len {
        let Ok(at) = usize::try_from(address.wrapping_add(done as u64)) else {
            return Err(Errno::FAULT);
        };
        let remote = libc::iovec {
            iov_base: ptr::without_provenance_mut(at),
            iov_len: len - done,
        };
        // SAFETY: `done` is below the buffer's length.
        let here = unsafe { buffer.add(done) };
        let local = libc::iovec {
            iov_base: here.cast(),
            iov_len: len - done,
        };
        // SAFETY: the local vector is valid; the kernel checks the remote one.
        let moved = check(unsafe {
            match way {
                Copy::In => {
                    libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0)
                }
                Copy::Out => {
                    libc::process_vm_writev(pid, &raw const local, 1, &raw const remote, 1, 0)
                }
            }
        })?;
        match moved.unsigned_abs() {
            0 => return Err(Errno::FAULT),
            count => done += count,
        }
    }
    Ok(())
}

/// A copy of memory of this process that is known to be mapped.
pub(crate) fn copy_of_own(address: u64, len: usize) -> Vec<u8> {
    let at = ptr::with_exposed_provenance::<u8>(usize::try_from(address).unwrap_or(0));
    let mut bytes = vec![0; len];
    // SAFETY: callers name a part of the shared area. A test that has unmapped it ends its own raw
    // process here.
    unsafe { ptr::copy_nonoverlapping(at, bytes.as_mut_ptr(), len) };
    bytes
}

/// A terminated string in memory of this process that is known to be mapped.
pub(crate) fn own_string(address: u64) -> std::ffi::CString {
    let at = ptr::with_exposed_provenance(usize::try_from(address).unwrap_or(0));
    // SAFETY: as above; the executor has terminated it.
    unsafe { std::ffi::CStr::from_ptr(at) }.to_owned()
}

/// The bytes at an address of a process; `EFAULT` when not all are mapped.
pub(crate) fn read_of(pid: i32, address: u64, len: usize) -> Sys<Vec<u8>> {
    let mut bytes = vec![0; len];
    copy(pid, address, bytes.as_mut_ptr(), len, &Copy::In)?;
    Ok(bytes)
}

/// Puts bytes at an address of a process; `EFAULT` when not all can be written.
pub(crate) fn write_of(pid: i32, address: u64, bytes: &[u8]) -> Sys<()> {
    copy(
        pid,
        address,
        bytes.as_ptr().cast_mut(),
        bytes.len(),
        &Copy::Out,
    )
}

/// The bytes at an address of this process; `EFAULT` when not all are mapped.
pub(crate) fn read_at(address: u64, len: usize) -> Sys<Vec<u8>> {
    read_of(super::process::id(), address, len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unmapped_address_is_an_error_and_not_a_crash() {
        let region = Region::map(100, 1 << 16).unwrap();
        assert_eq!(region.address(0) % (1 << 16), 0);
        region.put(8, b"here").unwrap();
        assert_eq!(read_at(region.address(8), 4).unwrap(), b"here");
        let past = region.address(region.len());
        assert_eq!(read_at(past, 1), Err(Errno::FAULT));
        assert_eq!(
            read_at(past - 2, 4),
            Err(Errno::FAULT),
            "half of it is not there"
        );
        let me = super::super::process::id();
        assert_eq!(write_of(me, 0, b"x"), Err(Errno::FAULT));
        write_of(me, region.address(8), b"THERE").unwrap();
        assert_eq!(region.get(8, 5), b"THERE");
        region.clear(8, 2);
        assert_eq!(region.get(8, 5), b"\0\0ERE");
        assert_eq!(region.put(region.len() - 1, b"xy"), Err(Errno::FAULT));
    }
}
