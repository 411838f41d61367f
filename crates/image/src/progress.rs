//! Progress messages while an image is prepared.

use provium_store::Notice;

/// Receives the long steps.
pub trait Progress: Send + Sync {
    /// A step begins: a sentence without a full stop, for people.
    fn step(&self, text: &str);
}

/// Discards the steps.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn step(&self, _text: &str) {}
}

/// The message for a notice of the cache.
pub(crate) fn tell(progress: &dyn Progress, what: &str, notice: Notice<'_>) {
    progress.step(&match notice {
        Notice::Waiting {
            holder: Some(holder),
        } => {
            format!("waiting for process {}, which is making {what}", holder.pid)
        }
        Notice::Waiting { holder: None } => format!("waiting for another process and {what}"),
        Notice::Damaged { path, why } => {
            format!("{what} in `{path}` was damaged ({why}): it is removed and rebuilt")
        }
    });
}
