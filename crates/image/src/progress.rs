//! Reports on the making of an image, for the user.

use provium_store::Notice;

/// Receives reports while an image is made.
pub trait Progress: Send + Sync {
    /// A long step begins: a sentence without a full stop, for people.
    fn step(&self, text: &str);

    /// Something was wrong, and the image is made in another way.
    fn warning(&self, text: &str);

    /// Whether [`amount`](Self::amount) is shown; finding it out takes time.
    fn shows_amounts(&self) -> bool {
        false
    }

    /// The number of bytes of the last step's download that have arrived.
    fn amount(&self, done: u64, total: u64) {
        let _ = (done, total);
    }
}

impl std::fmt::Debug for dyn Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Progress")
    }
}

/// Ignores all reports.
#[derive(Debug, Clone, Copy, Default)]
pub struct SilentProgress;

impl Progress for SilentProgress {
    fn step(&self, _text: &str) {}

    fn warning(&self, _text: &str) {}
}

/// Passes on what the cache reports about `what`.
pub(crate) fn report(progress: &dyn Progress, what: &str, notice: Notice<'_>) {
    let text = notice.describe(what);
    match notice {
        Notice::Waiting { .. } => progress.step(&text),
        Notice::Damaged { .. } => progress.warning(&text),
    }
}
