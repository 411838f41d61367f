//! A channel without a byte in flight, and another channel that continues from its checkpoint.
//!
//! ```text
//! quiesce: nothing new is sent; what has begun is completed; then `Quiesce`
//!    ▼ reply: no byte is in flight, the agent is silent
//! QuiescedChannel ── checkpoint ──▶ ChannelCheckpoint ── resume, on another stream ──▶ Channel
//!    ▼ dropped                                            (with the calls that were open)
//! messages are sent again
//! ```

use crate::call_state::CallState;
use crate::channel::Channel;
use crate::channel_state::ChannelState;
use crate::checkpoint::ChannelCheckpoint;
use crate::error::CallError;
use crate::shared::Shared;
use std::sync::Arc;

/// A channel that is silent in both directions, until this is dropped.
#[derive(Debug)]
pub struct QuiescedChannel {
    channel: Channel,
}

impl Channel {
    /// Quiesces the channel. Calls, input and credit wait, until the [`QuiescedChannel`] is dropped; none
    /// fails. Dropping the future ends the attempt.
    ///
    /// # Errors
    /// When the session has ended, or the channel is being quiesced already.
    pub async fn quiesce(&self) -> Result<QuiescedChannel, CallError> {
        let shared = self.shared();
        // Dropped with this future, it also ends the attempt.
        let quiesced = QuiescedChannel {
            channel: self.clone(),
        };
        let call = shared.with(ChannelState::begin_quiesce)?;
        let guard = CallGuard {
            shared,
            call: Arc::clone(&call),
        };
        let reply = call.take_outcome().await;
        drop(guard);
        reply.map(|_| quiesced)
    }
}

impl QuiescedChannel {
    /// The host's half of the channel.
    pub fn checkpoint(&self) -> ChannelCheckpoint {
        let transport = self.channel.transport();
        self.channel
            .shared()
            .with(|channel| channel.checkpoint(transport))
    }
}

impl Drop for QuiescedChannel {
    fn drop(&mut self) {
        self.channel.shared().with(ChannelState::end_quiesce);
    }
}

/// Abandons the call if it is not awaited to its end.
struct CallGuard<'a> {
    shared: &'a Shared,
    call: Arc<CallState>,
}

impl Drop for CallGuard<'_> {
    fn drop(&mut self) {
        if !self.call.is_over() {
            self.shared.with(|channel| channel.abandon(&self.call));
        }
    }
}
