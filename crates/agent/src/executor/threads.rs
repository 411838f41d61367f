//! Helper threads: each does one thing that may wait. Started by the main thread, so that they have
//! its identity, and joined by it, so that nothing of them is left half done when it forks.

use super::call::Call;
use super::shared::Shared;
use crate::failure::{self, OpResult};
use crate::sys::{Errno, Sys, process, signal};
use std::ffi::CStr;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

/// Enough for what they do; buffers are on the heap.
const STACK: usize = 64 * 1024;

#[derive(Default)]
pub(super) struct Threads(Vec<JoinHandle<()>>);

fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::AGAIN, Errno)
}

/// Starts a thread that nobody waits for.
pub(super) fn detached(name: &'static CStr, work: impl FnOnce() + Send + 'static) -> Sys<()> {
    start(name, work).map(drop)
}

fn start(name: &'static CStr, work: impl FnOnce() + Send + 'static) -> Sys<JoinHandle<()>> {
    // Born with everything blocked, so that signals to the process go to the main thread.
    signal::all_blocked(|| {
        Builder::new().stack_size(STACK).spawn(move || {
            process::name_thread(name);
            work();
        })
    })
    .map_err(|error| errno_of(&error))
}

impl Threads {
    /// Has a thread of its own answer the call.
    pub(super) fn answer(
        &mut self,
        shared: &Arc<Shared>,
        call: &Arc<Call>,
        work: impl FnOnce(&Shared, &Call) -> OpResult + Send + 'static,
    ) {
        self.join_finished();
        let (ours, theirs) = (Arc::clone(shared), Arc::clone(call));
        let started = start(c"provium-wait", move || {
            signal::block_all_but_interrupt();
            let result = theirs.interruptible(|| work(&ours, &theirs));
            ours.finish(&theirs, result);
        });
        match started {
            Ok(handle) => self.0.push(handle),
            Err(errno) => shared.finish(call, Err(failure::os("start a thread", errno))),
        }
    }

    /// Joins those that are done.
    pub(super) fn join_finished(&mut self) {
        for thread in self.0.extract_if(.., |thread| thread.is_finished()) {
            let _ = thread.join();
        }
    }
}
