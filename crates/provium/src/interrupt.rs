//! Ctrl-C and SIGTERM.
//!
//! The first one ends the run in good order: nothing more starts, and what runs cleans up. The
//! second one ends the process at once; the machines die with it, for each carries a parent-death
//! signal.

use crate::failure::Failure;
use crate::terminal;
use provium_runner::Stop;
use std::future::Future;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Counts the user's wishes to end.
#[derive(Debug, Clone)]
pub(crate) struct Interrupts(watch::Receiver<u32>);

impl Interrupts {
    /// From now on signals are counted instead of ending the process. Must be called in a runtime.
    pub(crate) fn listen(stop: Stop) -> Result<Self, Failure> {
        let refused = |source| Failure::Host {
            what: "a signal handler",
            source,
        };
        let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
        let (count, receiver) = watch::channel(0);
        tokio::spawn(async move {
            while either(&mut interrupt, &mut terminate).await {
                count.send_modify(|count| *count += 1);
                if *count.borrow() == 1 {
                    terminal::error("provium: stopping; once more stops at once\n");
                    stop.cancel();
                }
            }
        });
        Ok(Self(receiver))
    }

    /// Returns once there were `count` of them.
    pub(crate) async fn at_least(&self, count: u32) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|have| *have >= count).await.is_err() {
            // The listener is gone, so there will be none.
            std::future::pending::<()>().await;
        }
    }

    /// `work`, unless the user ends it first.
    pub(crate) async fn or<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            result = work => result,
            () = self.at_least(1) => Err(Failure::Interrupted),
        }
    }
}

async fn either(one: &mut Signal, other: &mut Signal) -> bool {
    tokio::select! {
        got = one.recv() => got.is_some(),
        got = other.recv() => got.is_some(),
    }
}
