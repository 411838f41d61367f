//! Ends the files of a run early: after the user's Ctrl-C, or because another file failed fast.

use tokio::sync::watch;

/// One switch, many watchers. Once thrown it stays.
#[derive(Debug, Clone)]
pub struct CancelToken(watch::Sender<bool>);

impl Default for CancelToken {
    fn default() -> Self {
        Self::new()
    }
}

impl CancelToken {
    /// A switch not yet thrown.
    pub fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Throws the switch.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }

    /// Whether it was thrown.
    pub fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is thrown.
    pub async fn cancelled(&self) {
        let mut receiver = self.0.subscribe();
        // The sender lives as long as `self`, so this ends only when the switch is thrown.
        let _ = receiver.wait_for(|thrown| *thrown).await;
    }
}
