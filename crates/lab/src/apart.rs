//! Work on the run's runtime that is cancelled with its caller.
//!
//! The I/O of machines belongs there, and not to the caller's runtime, which may be blocked for as
//! long as a test computes.

use provium_pool::Caller;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinHandle};

/// Runs `work` on `runtime`; dropping the future drops it.
pub(crate) async fn apart<T: Send + 'static>(
    runtime: &Handle,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, JoinError> {
    AbortOnDrop(match Caller::current() {
        Some(caller) => runtime.spawn(caller.enter(work)),
        None => runtime.spawn(work),
    })
    .await
}

/// A task that is aborted when this is dropped.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Future for AbortOnDrop<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
