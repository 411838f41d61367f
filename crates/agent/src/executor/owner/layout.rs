//! Buffers of raw calls: where each goes, and what points to it.

use crate::failure;
use crate::sys::Sys;
use provium_protocol::op::{Buffer, Syscall};
use provium_protocol::{Reply, WireError};

/// All buffers of one call together.
const LIMIT: usize = 128 * 1024 * 1024;

fn size(buffer: &Buffer) -> usize {
    usize::try_from(buffer.len).unwrap_or(usize::MAX)
}

/// Where everything goes, as offsets into one region.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    starts: Vec<usize>,
    links: Vec<Pointer>,
    pub(super) len: usize,
    pub(super) align: usize,
}

/// The address of `target` goes to `at`.
#[derive(Debug, PartialEq, Eq)]
struct Pointer {
    at: usize,
    target: usize,
}

impl Layout {
    pub(super) fn of(request: &Syscall) -> Result<Self, WireError> {
        let mut starts = Vec::with_capacity(request.buffers.len());
        let mut len = 0_usize;
        for (index, buffer) in request.buffers.iter().enumerate() {
            let align = buffer.align as usize;
            if !align.is_power_of_two() || align > 1 << 20 {
                let why =
                    format!("buffer {index}: alignment {align} is not a power of two up to 1 MiB");
                return Err(failure::invalid(why));
            }
            if buffer.content.len() > size(buffer) {
                return Err(failure::invalid(format!(
                    "buffer {index}: content longer than it"
                )));
            }
            let start = len.next_multiple_of(align.max(16));
            // At least one byte, so that each buffer has an address of its own.
            len = start.saturating_add(size(buffer).max(1));
            if len > LIMIT {
                return Err(failure::invalid(format!(
                    "buffers of more than {LIMIT} bytes in all"
                )));
            }
            starts.push(start);
        }
        let align = request
            .buffers
            .iter()
            .map(|buffer| buffer.align)
            .max()
            .unwrap_or(16);
        check_pointers(request)?;
        let links = links(request, &starts)?;
        Ok(Self {
            starts,
            links,
            len,
            align: align as usize,
        })
    }

    /// Puts everything into memory that begins at `base` and is zero.
    pub(super) fn place(
        &self,
        request: &Syscall,
        base: u64,
        mut put: impl FnMut(usize, &[u8]) -> Sys<()>,
    ) -> Result<(), WireError> {
        let mut put = |offset, bytes: &[u8]| {
            if bytes.is_empty() {
                return Ok(());
            }
            put(offset, bytes).map_err(|errno| failure::os("place a buffer", errno))
        };
        for (buffer, start) in request.buffers.iter().zip(&self.starts) {
            put(*start, &buffer.content)?;
        }
        for link in &self.links {
            put(link.at, &(base + link.target as u64).to_ne_bytes())?;
        }
        Ok(())
    }

    /// Number and arguments of the call, with addresses in their places.
    pub(super) fn arguments(&self, request: &Syscall, base: u64) -> [i64; 7] {
        let mut all = [0; 7];
        all[0] = request.nr;
        all[1..].copy_from_slice(&request.args);
        for (slot, start) in request.pointers.iter().zip(&self.starts) {
            if let Ok(slot) = usize::try_from(*slot)
                && let Some(argument) = all.get_mut(slot + 1)
            {
                *argument = (base + *start as u64).cast_signed();
            }
        }
        all
    }

    /// What the call came to.
    pub(super) fn reply(
        &self,
        request: &Syscall,
        result: i64,
        mut get: impl FnMut(usize, usize) -> Vec<u8>,
    ) -> Reply {
        let failed = (-4095..0).contains(&result);
        let (ret, errno) = if failed { (-1, -result) } else { (result, 0) };
        let buffers = request.buffers.iter().zip(&self.starts);
        Reply::Syscall {
            ret,
            errno: i32::try_from(errno).unwrap_or(0),
            buffers: buffers
                .map(|(buffer, start)| buffer.returned.then(|| get(*start, size(buffer)).into()))
                .collect(),
        }
    }
}

fn check_pointers(request: &Syscall) -> Result<(), WireError> {
    if request.pointers.len() > request.buffers.len() {
        return Err(failure::invalid("more pointers than buffers"));
    }
    match request
        .pointers
        .iter()
        .find(|slot| !(-1..6).contains(*slot))
    {
        Some(slot) => Err(failure::invalid(format!(
            "no argument has the number {slot}"
        ))),
        None => Ok(()),
    }
}

fn links(request: &Syscall, starts: &[usize]) -> Result<Vec<Pointer>, WireError> {
    let find = |index: u32| {
        let index = index as usize;
        match (request.buffers.get(index), starts.get(index)) {
            (Some(buffer), Some(start)) => Ok((buffer, *start)),
            _ => Err(failure::invalid(format!(
                "a nested pointer names buffer {index}, of {}",
                starts.len()
            ))),
        }
    };
    let mut links = Vec::with_capacity(request.nested.len());
    for link in &request.nested {
        let (parent, parent_start) = find(link.parent)?;
        let (child, child_start) = find(link.child)?;
        if link
            .offset
            .checked_add(8)
            .is_none_or(|end| end > parent.len)
        {
            let why = format!(
                "a nested pointer at {} of {} bytes",
                link.offset, parent.len
            );
            return Err(failure::invalid(why));
        }
        if link.child_offset > child.len {
            let why = format!(
                "a nested pointer to {} of {} bytes",
                link.child_offset, child.len
            );
            return Err(failure::invalid(why));
        }
        // Both are below the limit on all buffers together.
        let within = |offset: u64| usize::try_from(offset).unwrap_or(0);
        links.push(Pointer {
            at: parent_start + within(link.offset),
            target: child_start + within(link.child_offset),
        });
    }
    Ok(links)
}
