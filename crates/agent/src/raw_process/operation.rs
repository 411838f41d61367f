//! An operation process: carries out one operation with the state of a raw process, stores the result in
//! its slot, and exits (or becomes the command).

use super::{connect, launch, paths, tail, transfer, tree, wait};
use crate::failure::{self, OpResult};
use crate::sys::area::Area;
use crate::sys::slot::{PipeEnd, Slot, SlotState, Ticket};
use crate::sys::{Sys, fd, file, process, signal};
use provium_protocol::{Op, WireError, codec};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Where the process belongs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) area: Area,
    pub(crate) slot: usize,
    pub(crate) ticket: Ticket,
    /// Number of the raw process, as it sees itself.
    pub(crate) raw_process: i32,
}

/// The operation's side of its slot.
pub(crate) struct Operation {
    area: Area,
    slot: &'static Slot,
    ticket: Ticket,
    raw_process: i32,
}

/// The result of an operation: bytes for the output channel, and the reply.
pub(super) struct Finished {
    pub(super) data: Vec<u8>,
    pub(super) result: OpResult,
}

impl From<OpResult> for Finished {
    fn from(result: OpResult) -> Self {
        Self {
            data: Vec::new(),
            result,
        }
    }
}

impl From<WireError> for Finished {
    fn from(error: WireError) -> Self {
        Err(error).into()
    }
}

/// Carries out the op of a payload. For a process that was forked for it.
pub(crate) fn run(place: &Place, payload: &[u8]) -> ! {
    let slot = place.area.slot(place.slot);
    if !slot.begin(place.ticket, process::id()) {
        process::exit(0);
    }
    process::new_session();
    name_after(place);
    let operation = Operation {
        area: place.area,
        slot,
        ticket: place.ticket,
        raw_process: place.raw_process,
    };
    let finished = match codec::decode::<Op>(payload) {
        Ok(Op::Exec(exec)) => launch::run(&operation, exec).into(),
        Ok(op) => {
            signal::block_all();
            // A copy of a pipe's end would keep the pipe from ending.
            close_all_but(op.descriptor().map(|fd| fd.number));
            carry_out(&operation, op)
        }
        Err(_) => failure::invalid("the operation cannot be read").into(),
    };
    operation.finish(finished)
}

fn close_all_but(kept: Option<RawFd>) {
    match kept.filter(|kept| *kept >= 0) {
        None => fd::close_range(0, i32::MAX),
        Some(kept) => {
            if kept > 0 {
                fd::close_range(0, kept - 1);
            }
            fd::close_range(kept.saturating_add(1), i32::MAX);
        }
    }
}

/// A name by which the executor can find this process if it does not know its id.
fn name_after(place: &Place) {
    if let Ok(name) = std::ffi::CString::new(name_of(place.area.index, place.slot)) {
        process::name_thread(&name);
    }
}

/// The name of the operation process of a slot.
pub(crate) fn name_of(area: usize, slot: usize) -> String {
    format!("pv-op-{area}.{slot}")
}

fn carry_out(operation: &Operation, op: Op) -> Finished {
    match op {
        Op::ReadFile { path, inline } => transfer::read_file(operation, &path, inline),
        Op::WriteFile {
            path,
            perm,
            append,
            content,
        } => {
            let mode = paths::Mode { perm, append };
            transfer::write_file(operation, &path, mode, content).into()
        }
        Op::Stat { path } => paths::stat(&operation.resolve(&path)).into(),
        Op::ListDir { path } => paths::list(&operation.resolve(&path)).into(),
        Op::MakeDir {
            path,
            parents,
            perm,
        } => paths::make_dir(&path, parents, perm).into(),
        Op::Unlink { path } => paths::unlink(&path).into(),
        Op::Rename { from, to } => paths::rename(&from, &to).into(),
        Op::Chmod { path, perm } => paths::chmod(&operation.resolve(&path), perm).into(),
        Op::Symlink { target, path } => paths::symlink(&target, &path).into(),
        Op::ReadLink { path } => paths::read_link(&operation.resolve(&path)).into(),
        Op::ReadFd { fd, max } => transfer::read(fd.number, max).into(),
        Op::StreamFd { fd } => transfer::stream(operation, fd.number).into(),
        Op::WriteFd { fd } => transfer::write(operation, fd.number).into(),
        Op::SeekFd { fd, offset, whence } => transfer::seek(fd.number, offset, whence).into(),
        Op::TailFile { path, start } => {
            tail::follow_path(operation, operation.resolve(&path), start).into()
        }
        Op::TailFd { fd } => tail::follow_descriptor(operation, fd.number).into(),
        Op::WaitFor {
            condition,
            interval_ns,
            timeout_ns,
        } => {
            let [interval, timeout] = [interval_ns, timeout_ns].map(Duration::from_nanos);
            wait::run(operation, &condition, interval, timeout).into()
        }
        Op::Connect { address } => connect::run(operation, &address).into(),
        Op::PackTree { path } => tree::pack(operation, &path).into(),
        Op::UnpackTree { path } => tree::unpack(operation, &path).into(),
        // The executor and the raw process itself carry these out, and `launch` runs commands.
        Op::Exec(_)
        | Op::Signal { .. }
        | Op::SignalAll { .. }
        | Op::Join
        | Op::SpawnWorker(_)
        | Op::RetireWorker { .. }
        | Op::Batch { .. }
        | Op::Open { .. }
        | Op::CloseFd { .. }
        | Op::CheckFd { .. }
        | Op::Syscall(_)
        | Op::ReadMemory { .. }
        | Op::WriteMemory { .. }
        | Op::ClockGet
        | Op::ClockSet { .. }
        | Op::ClockAdvance { .. }
        | Op::ClockSleep { .. } => failure::invalid("not of an operation process").into(),
    }
}

impl Operation {
    /// The path, with the raw process in place of `self`: to a test, both are the same process.
    pub(super) fn resolve(&self, path: &[u8]) -> Vec<u8> {
        const SELF: &[u8] = b"/proc/self";
        const THREAD: &[u8] = b"/proc/thread-self";
        // The names of standard descriptors lead through `/proc/self`.
        const STANDARD: [(&[u8], &str); 4] = [
            (b"/dev/stdin", "/proc/self/fd/0"),
            (b"/dev/stdout", "/proc/self/fd/1"),
            (b"/dev/stderr", "/proc/self/fd/2"),
            (b"/dev/fd", "/proc/self/fd"),
        ];
        let standard = STANDARD.iter().find_map(|(name, leads_to)| {
            let rest = path.strip_prefix(*name)?;
            let is_it = rest.is_empty() || rest[0] == b'/';
            is_it.then(|| [leads_to.as_bytes(), rest].concat())
        });
        if let Some(found) = standard {
            return self.resolve(&found);
        }
        let below = |prefix: &[u8]| {
            let rest = path.strip_prefix(prefix)?;
            (rest.is_empty() || rest[0] == b'/').then(|| rest.to_vec())
        };
        let (rest, number) = match (below(SELF), below(THREAD)) {
            (Some(rest), _) => (rest, format!("/proc/{}", self.raw_process)),
            (None, Some(rest)) => {
                let raw = self.raw_process;
                (rest, format!("/proc/{raw}/task/{raw}"))
            }
            (None, None) => return path.to_vec(),
        };
        // The name itself, as a link, is left as it is; and so is everything, where the numbers of
        // `/proc` are those of another namespace.
        let own =
            file::read_link(SELF).is_ok_and(|own| own == process::id().to_string().as_bytes());
        if rest.is_empty() || !own {
            return path.to_vec();
        }
        let mut found = number.into_bytes();
        found.extend(rest);
        found
    }

    /// Creates a pipe and offers one end to the executor; returns the other.
    pub(super) fn make_pipe(&self, which: PipeEnd) -> Sys<(OwnedFd, OwnedFd)> {
        let (read, write) = with_room(fd::pipe)?;
        let (ours, theirs) = match which {
            PipeEnd::Input => (read, write),
            _ => (write, read),
        };
        self.slot.offer(which, theirs.as_raw_fd());
        Ok((ours, theirs))
    }

    pub(super) fn offer(&self, which: PipeEnd, fd: i32) {
        self.slot.offer(which, fd);
    }

    /// Waits until the executor has taken the offered ends. Exits if the executor no longer expects this process.
    pub(super) fn hand_over(&self) {
        let offered = self.slot.advance(self.ticket, SlotState::Offered);
        self.area.ring();
        if !offered || !self.slot.await_taken(self.ticket, SlotState::Offered) {
            process::exit(0);
        }
    }

    /// Stores the result and exits.
    fn finish(&self, finished: Finished) -> ! {
        let message = codec::encode(&finished.result);
        let kept = self.slot.leave(&finished.data, &message);
        if self.slot.advance(self.ticket, SlotState::Done) {
            self.area.ring();
            if kept {
                self.slot.await_taken(self.ticket, SlotState::Done);
            }
        }
        process::exit(0)
    }
}

/// Creates descriptors even if the raw process has as many as its limit allows: the limit is meant for the
/// test's own descriptors.
pub(super) fn with_room<T>(make: impl Fn() -> Sys<T>) -> Sys<T> {
    const EXTRA: u64 = 16;
    match make() {
        Err(crate::sys::Errno(libc::EMFILE)) => {}
        other => return other,
    }
    let limit = process::limit_of(0, libc::RLIMIT_NOFILE)?;
    let raised = limit.rlim_cur.saturating_add(EXTRA);
    let wider = libc::rlimit {
        rlim_cur: raised,
        rlim_max: limit.rlim_max.max(raised),
    };
    process::set_limit(libc::RLIMIT_NOFILE, wider)?;
    let made = make();
    process::set_limit(libc::RLIMIT_NOFILE, limit)?;
    made
}
