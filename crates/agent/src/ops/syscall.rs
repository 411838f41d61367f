//! Raw syscalls: buffers into memory, addresses into arguments and buffers, the call, and back.

use crate::executor::{Call, Outcome, Shared};
use crate::failure::{self, OpResult};
use crate::sys::memory::Region;
use crate::sys::{process, raw, signal};
use provium_protocol::op::{Buffer, Syscall};
use provium_protocol::{Event, Reply, WireError};

/// All buffers of one call together.
const LIMIT: usize = 128 * 1024 * 1024;
/// What is kept mapped between calls.
const KEPT: usize = 128 * 1024;
const PAGE: usize = 4096;

/// Makes the call, here or, in the background, on a thread of its own.
pub(crate) fn run(call: &Call, request: Syscall, kept: &mut Option<Region>) -> Outcome {
    let layout = match Layout::of(&request) {
        Ok(layout) => layout,
        Err(error) => return Err(error).into(),
    };
    if request.background {
        return Outcome::later(move |shared, call| in_background(shared, call, request, &layout));
    }
    match region_for(&layout, kept) {
        Ok(Place::Kept(region)) => perform(call, &request, &layout, region).into(),
        Ok(Place::Own(region)) => perform(call, &request, &layout, &region).into(),
        Err(error) => Err(error).into(),
    }
}

enum Place<'a> {
    Kept(&'a Region),
    Own(Region),
}

fn region_for<'a>(layout: &Layout, kept: &'a mut Option<Region>) -> Result<Place<'a>, WireError> {
    if layout.len > KEPT || layout.align > PAGE {
        return map(layout.len, layout.align).map(Place::Own);
    }
    let region = match kept.take() {
        Some(region) => region,
        None => map(KEPT, PAGE)?,
    };
    Ok(Place::Kept(kept.insert(region)))
}

fn map(len: usize, align: usize) -> Result<Region, WireError> {
    Region::map(len, align).map_err(|errno| failure::os("map buffers", errno))
}

fn in_background(shared: &Shared, call: &Call, request: Syscall, layout: &Layout) -> OpResult {
    let region = map(layout.len, layout.align)?;
    // What the main thread would notice, this thread shall; the process's own signals go on to the
    // main thread, which may be waiting for them.
    signal::block_all_but_interrupt();
    shared.event(
        call,
        &Event::Entered {
            tid: process::thread_id().unsigned_abs(),
        },
    );
    perform(call, &request, layout, &region)
}

fn perform(call: &Call, request: &Syscall, layout: &Layout, region: &Region) -> OpResult {
    place(request, layout, region)?;
    let mut args = request.args;
    for (slot, start) in request.pointers.iter().zip(&layout.starts) {
        if let Ok(slot) = usize::try_from(*slot)
            && let Some(argument) = args.get_mut(slot)
        {
            *argument = region.address(*start).cast_signed();
        }
    }
    let result = raw::syscall(request.nr, args);
    let interrupted = result == -i64::from(libc::EINTR);
    if interrupted && call.is_cancelled() {
        return Err(failure::cancelled());
    }
    let failed = (-4095..0).contains(&result);
    let (ret, errno) = if failed { (-1, -result) } else { (result, 0) };
    let buffers = request
        .buffers
        .iter()
        .zip(&layout.starts)
        .map(|(buffer, start)| {
            buffer
                .returned
                .then(|| region.get(*start, size(buffer)).into())
        });
    Ok(Reply::Syscall {
        ret,
        errno: i32::try_from(errno).unwrap_or(0),
        buffers: buffers.collect(),
    })
}

fn place(request: &Syscall, layout: &Layout, region: &Region) -> Result<(), WireError> {
    region.clear(0, layout.len);
    let put = |offset, bytes: &[u8]| {
        region
            .put(offset, bytes)
            .map_err(|errno| failure::os("place a buffer", errno))
    };
    for (buffer, start) in request.buffers.iter().zip(&layout.starts) {
        put(*start, &buffer.content)?;
    }
    for link in &layout.links {
        put(link.at, &region.address(link.target).to_ne_bytes())?;
    }
    Ok(())
}

fn size(buffer: &Buffer) -> usize {
    usize::try_from(buffer.len).unwrap_or(usize::MAX)
}

/// Where everything goes, as offsets into one region.
#[derive(Debug, PartialEq, Eq)]
struct Layout {
    starts: Vec<usize>,
    links: Vec<Pointer>,
    len: usize,
    align: usize,
}

/// The address of `target` goes to `at`.
#[derive(Debug, PartialEq, Eq)]
struct Pointer {
    at: usize,
    target: usize,
}

impl Layout {
    fn of(request: &Syscall) -> Result<Self, WireError> {
        let mut starts = Vec::with_capacity(request.buffers.len());
        let mut len = 0_usize;
        for (index, buffer) in request.buffers.iter().enumerate() {
            let align = buffer.align as usize;
            if !align.is_power_of_two() || align > 1 << 20 {
                let why =
                    format!("buffer {index}: alignment {align} is no power of two up to 1 MiB");
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
