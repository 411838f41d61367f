//! Waiting for the answer of a guest that may end meanwhile: nobody waits for the dead.

use provium_vmm::{Machine, Suspicion};
use std::future::Future;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::watch;

/// After the console or the channel suggests an end: how long QEMU may take to say why.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// The guest has ended, in this way.
    #[error("the guest ended: {0}")]
    Ended(String),
    /// Its time was over.
    #[error("the agent did not answer in time")]
    Late,
}

/// Waits for `answer`, for at most `limit`, and no longer than the guest lives.
pub(crate) async fn answer_of<T>(
    machine: &Machine,
    limit: Duration,
    answer: impl Future<Output = T>,
) -> Result<T, NoAnswer> {
    let mut answer = pin!(answer);
    let mut ended = machine.ended();
    let suspicion = tokio::select! {
        biased;
        answered = &mut answer => return Ok(answered),
        () = async { drop(ended.wait_for(Option::is_some).await) } => {
            return Err(NoAnswer::Ended(told(&ended, "QEMU ended")));
        }
        suspicion = machine.suspicion() => suspicion,
        () = tokio::time::sleep(limit) => return Err(NoAnswer::Late),
    };
    tokio::select! {
        biased;
        answered = answer => Ok(answered),
        word = last_word(machine, &suspicion) => Err(NoAnswer::Ended(word)),
    }
}

/// What is told of a guest whose console suggests its end: what QEMU says, which may know better,
/// if it says it soon. Meanwhile the console gets whole, too.
pub(crate) async fn last_word(machine: &Machine, suspicion: &Suspicion) -> String {
    let mut ended = machine.ended();
    let end = tokio::time::timeout(LAST_WORDS, ended.wait_for(Option::is_some)).await;
    let has_ended = matches!(end, Ok(Ok(_)));
    drop(end);
    if has_ended {
        told(&ended, "QEMU ended")
    } else {
        suspicion.to_string()
    }
}

/// What a watch says, as text.
pub(crate) fn told<T: ToString>(watch: &watch::Receiver<Option<T>>, otherwise: &str) -> String {
    watch
        .borrow()
        .as_ref()
        .map_or_else(|| otherwise.to_owned(), ToString::to_string)
}
