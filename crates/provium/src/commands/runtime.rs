//! The runtime that commands do their I/O on.

use crate::failure::Failure;
use crate::interrupt::Interrupts;
use provium_runner::Stop;
use std::future::Future;
use std::time::Duration;
use tokio::runtime::Runtime;

/// How long what is left in the background may take to end.
pub(super) const SHUTDOWN: Duration = Duration::from_millis(500);

/// The runtime on which all I/O is done.
pub(super) fn runtime() -> Result<Runtime, Failure> {
    let built = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    built.map_err(|source| Failure::Host {
        what: "threads for I/O",
        source,
    })
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
