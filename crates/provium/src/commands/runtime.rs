//! The runtime that commands do their I/O on.

use crate::failure::Failure;
use crate::interrupt::Interrupts;
use provium_runner::Stop;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;
use tokio::runtime::Runtime;

/// How long what is left in the background may take to end.
pub(super) const SHUTDOWN: Duration = Duration::from_millis(500);

/// Files that a run has open without a single VM, with some to spare.
const LEAST_FILES: u64 = 64;

/// Address space that a run without a VM takes, bytes: mostly the stacks of its threads and what the
/// allocator sets aside for each.
const LEAST_ADDRESS_SPACE: u64 = 1 << 30;

/// Threads beside those of the runtime: signals, output, dispatcher, the one that forks, a file, its
/// children, and the blocking ones that file I/O takes.
const OTHER_THREADS: usize = 10;

/// The runtime on which all I/O is done.
pub(super) fn runtime() -> Result<Runtime, Failure> {
    check_limits()?;
    let workers = available_parallelism().map_or(1, NonZeroUsize::get);
    check_threads(workers + OTHER_THREADS)?;
    let built = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build();
    built.map_err(|source| Failure::Host {
        what: "threads for I/O",
        source,
    })
}

/// Limits of this process that are too low for anything. They were raised as far as they may be.
fn check_limits() -> Result<(), Failure> {
    let files = provium_process::max_open_files();
    if files < LEAST_FILES {
        return Err(Failure::Limit {
            what: "open files",
            needed: LEAST_FILES,
            limit: files.to_string(),
        });
    }
    match provium_process::max_address_space() {
        Some(bytes) if bytes < LEAST_ADDRESS_SPACE => Err(Failure::Limit {
            what: "bytes of address space",
            needed: LEAST_ADDRESS_SPACE,
            limit: bytes.to_string(),
        }),
        _ => Ok(()),
    }
}

/// Whether so many threads can be started. The runtime, where it gets fewer than it needs, panics, and
/// waits in that for those that it has.
fn check_threads(count: usize) -> Result<(), Failure> {
    let (end, ended) = channel::<()>();
    let ended = Arc::new(Mutex::new(ended));
    let mut threads = Vec::new();
    let mut refused = None;
    for _ in 0..count {
        let ended = Arc::clone(&ended);
        let builder = std::thread::Builder::new().name("trial".to_owned());
        let spawned = builder.spawn(move || {
            // Ends when the sender is gone, one after the other.
            let ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = ended.recv();
        });
        match spawned {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    drop(end);
    for thread in threads {
        // It cannot panic.
        let _ = thread.join();
    }
    match refused {
        None => Ok(()),
        Some(source) => Err(Failure::Host {
            what: "the threads that a run needs (`ulimit -u`, or a pids cgroup)",
            source,
        }),
    }
}

/// Does `work` to its end, unless the user ends it first.
pub(super) fn interruptible<T>(
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let runtime = runtime()?;
    let result = runtime.block_on(async {
        let interrupts = Interrupts::listen(Stop::new())?;
        interrupts.or(work).await
    });
    runtime.shutdown_timeout(SHUTDOWN);
    result
}
