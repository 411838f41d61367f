//! Agreeing on a session.
//!
//! The host sends SYNC and its hello, again each second until the agent answers with the hello of
//! that session: a UART may lose bytes, and a port may open late. Repetitions do no harm, as nothing
//! else is sent before the answer.

use crate::error::ChannelError;
use crate::session::{FirstRequest, OpenSession, PendingHandshake};
use crate::shared::Shared;
use provium_protocol::frame::SYNC;
use provium_protocol::{CallId, Frame, FrameKind, HostHello, Lane, codec};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;
use tokio::time::sleep;

/// The hello is repeated when it was not answered for so long.
const REPEAT: Duration = Duration::from_secs(1);
/// After a reboot the host waits so long for the agent's announcement before it sends its hello: the
/// announcement may have been lost with half a frame before it.
const ANNOUNCEMENT_LIMIT: Duration = Duration::from_secs(5);

/// What came before a [resync](crate::Channel::resync).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResyncCause {
    /// The guest reboots: its agent announces itself, or has done so.
    Reboot,
    /// Nothing: the agent listens already, though the session with it broke.
    Silence,
}

/// When the host sends its hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HelloTrigger {
    AtOnce,
    OnAnnouncement,
}

impl Shared {
    /// Agrees on a session with the agent; returns its hello. Ends when the agent answers, or the
    /// channel is closed. Dropping the future leaves the channel without a session.
    ///
    /// `first` is sent as soon as the session is open, before any other request.
    pub(crate) async fn handshake(
        &self,
        mut hello: HostHello,
        opening: HelloTrigger,
        first: Option<FirstRequest>,
    ) -> Result<OpenSession, ChannelError> {
        if hello.session == 0 {
            hello.session = new_session();
        }
        let session = hello.session;
        let mut announcements = self.announcements.subscribe();
        let (answer, mut answered) = oneshot::channel();
        let awaiting = PendingHandshake {
            session,
            first,
            answer,
        };
        self.with(|channel| channel.session.await_hello(awaiting));
        let _awaiting = PendingHandshakeGuard {
            shared: self,
            session,
        };
        let announced = self.with(|channel| channel.session.announced());
        if opening == HelloTrigger::OnAnnouncement && !announced {
            tokio::select! {
                result = &mut answered => return over(result),
                // The sender is `self`'s.
                _ = announcements.changed() => {}
                () = sleep(ANNOUNCEMENT_LIMIT) => {}
            }
        }
        loop {
            self.with(|channel| channel.send_preamble(session, preamble(&hello)));
            tokio::select! {
                result = &mut answered => return over(result),
                _ = announcements.changed() => {}
                () = sleep(REPEAT) => {}
            }
        }
    }
}

fn over(
    result: Result<Result<OpenSession, ChannelError>, oneshot::error::RecvError>,
) -> Result<OpenSession, ChannelError> {
    result.unwrap_or(Err(ChannelError::SessionOver))
}

/// Stops the wait when the future that waits is dropped.
struct PendingHandshakeGuard<'a> {
    shared: &'a Shared,
    session: u64,
}

impl Drop for PendingHandshakeGuard<'_> {
    fn drop(&mut self) {
        self.shared
            .with(|channel| channel.stop_awaiting(self.session));
    }
}

fn preamble(hello: &HostHello) -> Vec<u8> {
    let mut bytes = SYNC.to_vec();
    let message = codec::encode(hello);
    for frame in Frame::split(FrameKind::Hello, Lane::AGENT, CallId(0), &message) {
        frame.encode(&mut bytes);
    }
    bytes
}

/// A number that no other session had, nor will a later process take: a restored guest may still
/// hold frames of an earlier one.
fn new_session() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let now = u64::try_from(since_epoch.as_nanos())
        .unwrap_or(u64::MAX - 1)
        .max(1);
    let last = LAST
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
            Some(now.max(last + 1))
        })
        .unwrap_or(0);
    now.max(last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_have_numbers_of_their_own() {
        let numbers: Vec<_> = (0..100).map(|_| new_session()).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b));
    }
}
