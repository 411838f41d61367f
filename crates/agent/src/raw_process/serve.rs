//! The main loop of a raw process: serves requests, one at a time.

use super::reserved_slot::ReservedSlot;
use super::{carry_out, worker};
use crate::roots;
use crate::sys::area::{Area, Code, WOULD_WAIT, thread_state};
use crate::sys::memory::Region;
use crate::sys::process::{self, ForkSide};
use crate::sys::sibling::{ChildOf, Sibling};
use crate::sys::slot::Ticket;
use crate::sys::{Errno, fd, file, raw, signal, thread};
use provium_protocol::message::EntryType;
use std::ffi::CString;
use std::os::fd::IntoRawFd;

/// Turns a process that the executor has just forked into a raw process.
pub(crate) fn become_raw_process(area: Area) -> ! {
    // Through a descriptor of the agent, which is closed next. Its memory is what a test allocates.
    roots::set_oom_score("0");
    fd::close_range(3, i32::MAX);
    signal::default_dispositions();
    process::new_session();
    run(area)
}

/// Serves the requests of an area until the process ends.
fn run(area: Area) -> ! {
    process::die_with_parent();
    process::name_thread(c"provium-raw");
    signal::install_interrupt();
    signal::unblock_all();
    area.guard_buffers();
    area.mark_at_end(process::thread_id());
    let mut server = Server {
        area,
        regions: Vec::new(),
        stacks: Vec::new(),
        siblings: Vec::new(),
        payload: Vec::new(),
    };
    loop {
        let (code, arguments) = area.await_request();
        let result = code.map_or(-i64::from(libc::ENOSYS), |code| {
            server.handle(code, arguments)
        });
        let forked = code == Some(Code::Fork) && result > 0;
        let slot = usize::try_from(arguments[0]).ok().filter(|_| forked);
        area.answer(result, slot);
    }
}

struct Server {
    area: Area,
    /// Memory for the buffers of large and of asynchronous calls.
    regions: Vec<Region>,
    /// Of threads, by the index of their cells.
    stacks: Vec<Option<thread::Stack>>,
    /// What operation processes run on.
    siblings: Vec<Sibling>,
    /// A payload that is too long for the area.
    payload: Vec<u8>,
}

impl Server {
    fn handle(&mut self, code: Code, arguments: [i64; 8]) -> i64 {
        let [first, second, third, fourth, fifth, ..] = arguments;
        let number = |value: i64| usize::try_from(value).unwrap_or(0);
        match code {
            Code::Call => {
                let [nr, args @ .., _] = arguments;
                raw::syscall(nr, args, true)
            }
            Code::Map => match Region::map(number(first), number(second)) {
                Ok(region) => {
                    let address = region.address(0).cast_signed();
                    self.regions.push(region);
                    address
                }
                Err(Errno(errno)) => -i64::from(errno),
            },
            Code::Unmap => {
                self.regions
                    .retain(|region| region.address(0).cast_signed() != first);
                0
            }
            Code::Fork => {
                let slot = self.reserved_slot(first, second);
                self.fork_operation(slot, third, number(fourth))
            }
            Code::Thread => self.start_thread(number(first)),
            Code::Worker => {
                let spec = self.payload_at(third, number(fourth));
                let Some(area) = Area::of(number(fifth)) else {
                    return -i64::from(libc::EINVAL);
                };
                worker::fork(&spec, self.reserved_slot(first, second), area, run)
            }
            Code::Load => {
                self.payload = vec![0; number(first)];
                self.payload.as_ptr().addr() as i64
            }
            Code::Open => open(first, second, third),
            Code::Root => take_root(first, second),
        }
    }

    /// The payload that the executor has put into the area, or into memory that was mapped for it.
    fn payload_at(&mut self, address: i64, len: usize) -> Vec<u8> {
        if address.cast_unsigned() == self.area.payload() {
            return crate::sys::memory::copy_of_own(address.cast_unsigned(), len);
        }
        let mut payload = std::mem::take(&mut self.payload);
        payload.truncate(len);
        payload
    }

    fn reserved_slot(&self, index: i64, ticket: i64) -> ReservedSlot {
        ReservedSlot {
            area: self.area,
            index: usize::try_from(index).unwrap_or(0),
            ticket: Ticket::of(u32::try_from(ticket).unwrap_or(0)),
        }
    }

    fn fork_operation(&mut self, slot: ReservedSlot, address: i64, len: usize) -> i64 {
        let payload = self.payload_at(address, len);
        let raw_process = process::id();
        let started = self.sibling().and_then(|sibling| {
            let payload = payload.clone();
            sibling.start(ChildOf::Parent, move || {
                carry_out::run(slot, raw_process, &payload)
            })
        });
        match started {
            Ok(pid) => i64::from(pid),
            // Not every namespace takes a process that shares memory with one outside of it.
            Err(Errno(libc::EINVAL)) => match process::fork(libc::CLONE_PARENT) {
                Ok(ForkSide::Parent(pid)) => i64::from(pid),
                Ok(ForkSide::Child) => carry_out::run(slot, raw_process, &payload),
                Err(Errno(errno)) => -i64::from(errno),
            },
            Err(Errno(errno)) => -i64::from(errno),
        }
    }

    /// One that no process uses.
    fn sibling(&mut self) -> crate::sys::Sys<&mut Sibling> {
        Sibling::free_of(&mut self.siblings)
    }

    fn start_thread(&mut self, index: usize) -> i64 {
        if self.stacks.len() <= index {
            self.stacks.resize_with(index + 1, || None);
        }
        let stack = match &mut self.stacks[index] {
            Some(stack) => stack,
            none => match thread::Stack::map() {
                Ok(stack) => none.insert(stack),
                Err(Errno(errno)) => return -i64::from(errno),
            },
        };
        let cell = self.area.thread(index);
        cell.state
            .store(thread_state::STARTED, std::sync::atomic::Ordering::Release);
        // What the main thread would notice, this thread shall; the process's own signals go to the
        // main thread, which may be waiting for them.
        let started =
            signal::all_but_interrupt_blocked(|| thread::start(stack, self.area, index, cell));
        match started {
            Ok(tid) => i64::from(tid),
            Err(Errno(errno)) => -i64::from(errno),
        }
    }
}

/// Opens, unless that may block on another process.
fn open(path: i64, flags: i64, perm: i64) -> i64 {
    let path = crate::sys::memory::own_string(path.cast_unsigned());
    let (Ok(flags), Ok(perm)) = (i32::try_from(flags), u32::try_from(perm)) else {
        return -i64::from(libc::EINVAL);
    };
    let waits = flags & (libc::O_NONBLOCK | libc::O_PATH) == 0
        && file::stat_at(libc::AT_FDCWD, &path, 0).is_ok_and(|found| may_wait(found.entry_type()));
    if waits {
        return WOULD_WAIT;
    }
    match file::open_at(libc::AT_FDCWD, &path, flags | libc::O_NOCTTY, perm) {
        Ok(file) => i64::from(file.into_raw_fd()),
        Err(Errno(errno)) => -i64::from(errno),
    }
}

/// Whether opening, reading or writing may block on another process.
fn may_wait(kind: EntryType) -> bool {
    !matches!(
        kind,
        EntryType::File | EntryType::Dir | EntryType::BlockDevice
    )
}

/// Changes to the root that the executor has open, to which process 1 has moved.
fn take_root(executor: i64, number: i64) -> i64 {
    use std::os::fd::AsRawFd;
    let (Ok(executor), Ok(number)) = (i32::try_from(executor), i32::try_from(number)) else {
        return -i64::from(libc::EINVAL);
    };
    let folder = process::open(executor)
        .and_then(|process| process::descriptor_of(process.as_raw_fd(), number))
        .or_else(|_| {
            let path = CString::new(format!("/proc/{executor}/fd/{number}"));
            let path = path.map_err(|_| Errno::INVAL)?;
            let flags = libc::O_PATH | libc::O_DIRECTORY;
            file::open_at(libc::AT_FDCWD, &path, flags, 0)
        });
    match folder.and_then(|folder| file::change_root(folder.as_raw_fd())) {
        Ok(()) => 0,
        Err(Errno(errno)) => -i64::from(errno),
    }
}
