//! What every operation has: its slot, its pipes to the executor, and the paths as a test means them.

use super::reserved_slot::ReservedSlot;
use crate::failure::OpResult;
use crate::sys::slot::PipeEnd;
use crate::sys::{Sys, fd, file, process};
use provium_protocol::{WireError, codec};
use std::os::fd::{AsRawFd, OwnedFd};

/// An operation, in the process that carries it out.
pub(crate) struct Operation {
    slot: ReservedSlot,
    raw_process: i32,
}

/// The result of an operation: bytes for the output channel, and the reply.
pub(super) struct OperationResult {
    pub(super) data: Vec<u8>,
    pub(super) result: OpResult,
}

impl From<OpResult> for OperationResult {
    fn from(result: OpResult) -> Self {
        Self {
            data: Vec::new(),
            result,
        }
    }
}

impl From<WireError> for OperationResult {
    fn from(error: WireError) -> Self {
        Err(error).into()
    }
}

impl Operation {
    /// `raw_process` is the id of the raw process, as it sees itself.
    pub(super) fn new(slot: ReservedSlot, raw_process: i32) -> Self {
        Self { slot, raw_process }
    }

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
        if !self.slot.hand_over() {
            process::exit(0);
        }
    }

    /// Stores the result and exits.
    pub(super) fn finish(&self, finished: OperationResult) -> ! {
        let message = codec::encode(&finished.result);
        let stored = self.slot.store(&finished.data, &message);
        if stored.is_expected && stored.is_in_memory {
            self.slot.await_reader();
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
