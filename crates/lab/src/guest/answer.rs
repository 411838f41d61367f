//! Waiting for the answer of a guest that may end meanwhile: the wait ends with the guest.

use provium_vmm::{FailureHint, Machine};
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
    /// The guest reset the machine instead.
    #[error("the guest reset the machine before its agent answered")]
    Reset,
    /// Its time was over.
    #[error("the agent did not answer in time")]
    Late,
}

/// Waits for `answer`, for at most `limit`, and no longer than the guest lives and does not reset.
pub(crate) async fn answer_of<T>(
    machine: &Machine,
    limit: Duration,
    answer: impl Future<Output = T>,
) -> Result<T, NoAnswer> {
    let reboots = *machine.reboots().borrow();
    answer_of_boot(machine, reboots, limit, answer).await
}

/// The same for a boot that began when the guest had reset the machine `reboots` times.
pub(crate) async fn answer_of_boot<T>(
    machine: &Machine,
    reboots: u64,
    limit: Duration,
    answer: impl Future<Output = T>,
) -> Result<T, NoAnswer> {
    let mut answer = pin!(answer);
    let mut ended = machine.ended();
    let mut resets = machine.reboots();
    let hint = tokio::select! {
        biased;
        answered = &mut answer => return Ok(answered),
        () = async { drop(ended.wait_for(Option::is_some).await) } => {
            return Err(NoAnswer::Ended(text_of(&ended, "QEMU ended")));
        }
        () = reset_after(&mut resets, reboots) => return Err(NoAnswer::Reset),
        hint = machine.failure_hint() => hint,
        () = tokio::time::sleep(limit) => return Err(NoAnswer::Late),
    };
    tokio::select! {
        biased;
        answered = answer => Ok(answered),
        word = last_word(machine, &hint) => Err(NoAnswer::Ended(word)),
    }
}

/// Waits until the guest has reset the machine more often than `reboots` times.
async fn reset_after(resets: &mut watch::Receiver<u64>, reboots: u64) {
    if resets.wait_for(|count| *count > reboots).await.is_err() {
        // The machine is gone: its end is waited for as well.
        std::future::pending::<()>().await;
    }
}

/// The reported end of a guest whose console suggests that it has ended: what QEMU reports, which is more
/// precise, if it comes soon. Meanwhile the rest of the console arrives, too.
pub(crate) async fn last_word(machine: &Machine, hint: &FailureHint) -> String {
    match end_of(machine).await {
        Some(end) => end,
        None => hint.to_string(),
    }
}

/// How the machine ended, if it has or does so now. The agent's channel closes when QEMU ends, and may
/// do so first.
pub(crate) async fn end_of(machine: &Machine) -> Option<String> {
    let mut ended = machine.ended();
    let end = tokio::time::timeout(LAST_WORDS, ended.wait_for(Option::is_some)).await;
    let has_ended = matches!(end, Ok(Ok(_)));
    drop(end);
    has_ended.then(|| text_of(&ended, "QEMU ended"))
}

/// What a watch says, as text.
pub(crate) fn text_of<T: ToString>(watch: &watch::Receiver<Option<T>>, otherwise: &str) -> String {
    watch
        .borrow()
        .as_ref()
        .map_or_else(|| otherwise.to_owned(), ToString::to_string)
}
