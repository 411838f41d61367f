//! A channel brought to a cut, and another one that goes on from there.
//!
//! ```text
//! quiesce: no new words go out; what has begun goes on; then `Quiesce`
//!    ▼ reply: no byte is under way, the agent is silent
//! Quiet ── cut ──▶ Cut ── resume, on another stream ──▶ Channel: the calls that were open are open
//!    ▼ dropped
//! everything goes on
//! ```

use crate::channel::Channel;
use crate::cut::Cut;
use crate::error::CallError;
use crate::shared::Shared;
use std::sync::Arc;

/// A channel that is silent, both ways. Dropping it lets everything go on.
#[derive(Debug)]
pub struct Quiet {
    channel: Channel,
}

impl Channel {
    /// Brings the channel to a cut. Meanwhile and as long as the [`Quiet`] lives, calls, input and
    /// credit wait; none fails. Dropping the future lets everything go on.
    ///
    /// # Errors
    /// When the session has ended, or another cut is being made.
    pub async fn quiesce(&self) -> Result<Quiet, CallError> {
        let shared = self.shared();
        // From here on a drop lets everything go on, also that of this future.
        let quiet = Quiet {
            channel: self.clone(),
        };
        let call = shared.begin_quiet()?;
        let guard = CallGuard {
            shared,
            call: Arc::clone(&call),
        };
        let reply = call.take_outcome().await;
        drop(guard);
        reply.map(|_| quiet)
    }
}

impl Quiet {
    /// The host's half, now.
    pub fn cut(&self) -> Cut {
        self.channel.shared().cut(self.channel.transport())
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        self.channel.shared().end_quiet();
    }
}

/// Gives the call up if nobody waits for it any more.
struct CallGuard<'a> {
    shared: &'a Shared,
    call: Arc<crate::cell::Cell>,
}

impl Drop for CallGuard<'_> {
    fn drop(&mut self) {
        if !self.call.is_over() {
            self.shared.abandon(&self.call);
        }
    }
}
