//! The handle of a channel, and requests to the agent itself.

use crate::call::Call;
use crate::call_state::CallState;
use crate::capture::Capture;
use crate::channel_state::ChannelState;
use crate::checkpoint::{ChannelCheckpoint, CommandCheckpoint};
use crate::error::{CallError, ChannelError};
use crate::establish::{AgentHello, first_agent};
use crate::handshake::{HelloTrigger, ResyncCause};
use crate::incoming::Sink;
use crate::kind::CallKind;
use crate::module_provider::{self, ModuleProvider};
use crate::outgoing::OutgoingRequest;
use crate::reader::Reader;
use crate::reply_limits::ReplyLimits;
use crate::session::{Announcement, FirstRequest, Identity, OpenSession};
use crate::shared::Shared;
use crate::writer;
use provium_protocol::op::{
    DiskNode, FromReply, NicCounters, ReadNicCounters, SetDisks, SetIdentity, SetNetwork,
};
use provium_protocol::{AgentOp, FrameDecoder, Hello, HostHello, Lane, Op, Reply, Request};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// The host's end of the stream to one guest's agent. Cheap to clone. The stream is closed when the last
/// clone and the last call are dropped.
///
/// Many methods because the requests to the agent itself, which have no handle of their own, are here beside
/// the life cycle of the channel.
#[derive(Debug, Clone)]
pub struct Channel(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    tasks: Vec<AbortHandle>,
    transport: usize,
}

impl Channel {
    /// Listens on all `streams` until an agent announces itself on one, drops the others, and agrees
    /// on a session. The hello's session number is chosen here when it is 0.
    ///
    /// Sets no deadline; dropping the future drops the streams. The channel's tasks run on the
    /// runtime that this is called on.
    ///
    /// # Errors
    /// When the agent is not the one of `hello.protocol` and `expected_build`, or when all streams
    /// are closed.
    pub async fn establish<S>(
        streams: Vec<S>,
        hello: HostHello,
        expected_build: &str,
        modules: Arc<dyn ModuleProvider>,
    ) -> Result<(Self, Hello), ChannelError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let identity = identity(&hello, expected_build);
        let AgentHello {
            index,
            stream,
            decoder,
            hello: heard,
        } = first_agent(streams).await.ok_or(ChannelError::NoAgent)?;
        if let Some(heard) = &heard {
            identity.check(heard)?;
        }
        let first = heard.map(|hello| Announcement { number: 1, hello });
        let channel = Self::start(
            stream,
            decoder,
            Shared::new(ChannelState::new(first.is_some()), identity, first),
            modules,
            index,
        );
        let shared = &channel.0.shared;
        let opened = shared.handshake(hello, HelloTrigger::AtOnce, None).await?;
        Ok((channel, opened.hello))
    }

    /// The channel of a guest that was restored, on the restored machine's stream. It needs no handshake,
    /// because the guest continues the session. `build` is that of its agent, which is the host's.
    ///
    /// The agent stays silent until the first frame from the host. Reattach the calls that are still
    /// wanted before that, and make [`Channel::set_identity`] the first call. The channel's tasks run on
    /// the runtime that this is called on.
    pub fn resume<S>(
        stream: S,
        checkpoint: &ChannelCheckpoint,
        build: &str,
        modules: Arc<dyn ModuleProvider>,
    ) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let identity = Identity {
            protocol: provium_protocol::PROTOCOL_VERSION,
            host_build: build.to_owned(),
            expected_build: build.to_owned(),
        };
        let shared = Shared::new(ChannelState::resumed(checkpoint), identity, None);
        Self::start(
            stream,
            FrameDecoder::in_step(),
            shared,
            modules,
            checkpoint.transport,
        )
    }

    /// The call of a command in the checkpoint that the channel was resumed from; one that is over, if it is
    /// not there.
    pub(crate) fn reattach(
        &self,
        lane: Lane,
        checkpoint: &CommandCheckpoint,
        outputs: [Arc<Capture>; 2],
    ) -> Call {
        let shared = &self.0.shared;
        let call = shared.with(|channel| channel.calls.get(checkpoint.call).cloned());
        let call = match call.filter(|call| call.lane == lane) {
            Some(call) => {
                call.reattach(checkpoint.pid, outputs);
                call
            }
            None => {
                let request =
                    OutgoingRequest::sent_before(lane, CallKind::Other, ReplyLimits::plain());
                let sinks = [Sink::Discard, Sink::Discard];
                let missing = CallError::Unexpected("reattach");
                Arc::new(CallState::refused(&request, sinks, missing))
            }
        };
        self.handle(call)
    }

    fn start<S>(
        stream: S,
        decoder: FrameDecoder,
        shared: Shared,
        modules: Arc<dyn ModuleProvider>,
        transport: usize,
    ) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let shared = Arc::new(shared);
        let (read, write) = tokio::io::split(stream);
        let (requests, waiting) = mpsc::channel(module_provider::WAITING_LIMIT);
        let reader = Reader::new(Arc::clone(&shared), decoder, requests);
        let tasks = vec![
            tokio::spawn(reader.run(read)).abort_handle(),
            tokio::spawn(writer::run(Arc::clone(&shared), write)).abort_handle(),
            tokio::spawn(module_provider::run(Arc::clone(&shared), waiting, modules))
                .abort_handle(),
        ];
        Self(Arc::new(Inner {
            shared,
            tasks,
            transport,
        }))
    }

    /// Starts a new session on the same stream: all calls of the old one fail (with "the guest was
    /// rebooted" after a reboot), then the host sends its hello, once a second, until the agent answers.
    /// This also recovers a session that ended with a violation of the protocol.
    ///
    /// Sets no deadline; dropping the future leaves the channel without a session.
    ///
    /// # Errors
    /// When the stream is closed, or the agent is another.
    pub async fn resync(
        &self,
        hello: HostHello,
        after: ResyncCause,
    ) -> Result<Hello, ChannelError> {
        let opened = self.start_over(hello, after, None).await?;
        Ok(opened.hello)
    }

    /// The same, with the guest's identity as the first request of the new session: it is set before
    /// any other call is carried out. `identity` is called when the agent has answered.
    ///
    /// # Errors
    /// As of [`Channel::resync`] and [`Channel::set_identity`].
    pub async fn resync_as(
        &self,
        hello: HostHello,
        after: ResyncCause,
        identity: impl FnOnce() -> SetIdentity + Send + 'static,
    ) -> Result<Hello, CallError> {
        let first: FirstRequest = Box::new(|| identity().into());
        let opened = self.start_over(hello, after, Some(first)).await;
        let OpenSession { hello, first } =
            opened.map_err(|why| CallError::Channel(Arc::new(why)))?;
        if let Some(call) = first {
            let reply = self.handle(call).reply().await?;
            typed::<SetIdentity>(reply)?;
        }
        Ok(hello)
    }

    async fn start_over(
        &self,
        hello: HostHello,
        after: ResyncCause,
        first: Option<FirstRequest>,
    ) -> Result<OpenSession, ChannelError> {
        let shared = &self.0.shared;
        let (reason, opening) = match after {
            ResyncCause::Reboot => (ChannelError::Rebooted, HelloTrigger::OnAnnouncement),
            ResyncCause::Silence => (ChannelError::SessionOver, HelloTrigger::AtOnce),
        };
        shared.end_session(reason, after == ResyncCause::Reboot);
        let _turn = shared.handshakes.lock().await;
        shared.handshake(hello, opening, first).await
    }

    /// Sets the guest's clock, host name and randomness.
    ///
    /// # Errors
    /// What the guest answers, and the end of the session.
    pub async fn set_identity(&self, identity: SetIdentity) -> Result<(), CallError> {
        self.call(identity).await
    }

    /// Sets the guest's NICs, addresses and host names. Waits for NICs that have just been plugged in.
    ///
    /// # Errors
    /// What the guest answers, and the end of the session.
    pub async fn set_network(&self, network: SetNetwork) -> Result<(), CallError> {
        self.call(network).await
    }

    /// Has the guest see its disks as they are now, and mounts them. Waits for disks that have just been
    /// plugged in. The device nodes, in the order of the request.
    ///
    /// # Errors
    /// What the guest answers, and the end of the session.
    pub async fn set_disks(&self, disks: SetDisks) -> Result<Vec<DiskNode>, CallError> {
        self.call(disks).await
    }

    /// What the guest's kernel has counted on the NIC with this hardware address of its own.
    ///
    /// # Errors
    /// What the guest answers, and the end of the session.
    pub async fn nic_counters(&self, device_mac: [u8; 6]) -> Result<NicCounters, CallError> {
        self.call(ReadNicCounters { device_mac }).await
    }

    /// Makes a request to the agent itself and waits for its reply. Dropping the future cancels the
    /// call.
    ///
    /// # Errors
    /// What the guest answers, and the end of the session.
    pub async fn call<R: Request + Into<AgentOp>>(
        &self,
        request: R,
    ) -> Result<R::Reply, CallError> {
        let request = OutgoingRequest::to_agent(&request.into());
        let sinks = [Sink::Discard, Sink::Discard];
        let mut call = self.open_request(request, sinks);
        typed::<R>(call.reply().await?)
    }

    /// Makes a call. When the channel has no session, the call's outcome says so.
    pub fn open(&self, lane: Lane, op: &Op) -> Call {
        self.open_into(lane, op, [Sink::Queue, Sink::Queue])
    }

    pub(crate) fn open_into(&self, lane: Lane, op: &Op, sinks: [Sink; 2]) -> Call {
        self.open_request(OutgoingRequest::to_lane(lane, op), sinks)
    }

    fn open_request(&self, request: OutgoingRequest, sinks: [Sink; 2]) -> Call {
        self.handle(self.0.shared.with(|channel| channel.open(request, sinks)))
    }

    fn handle(&self, call: Arc<CallState>) -> Call {
        let alive: Arc<Inner> = Arc::clone(&self.0);
        Call::new(Arc::clone(&self.0.shared), alive, call)
    }

    /// Makes a call whose outcome is not reported. Only the end of the session cancels it.
    pub fn post(&self, lane: Lane, op: &Op) {
        let request = OutgoingRequest::to_lane(lane, op);
        let sinks = [Sink::Discard, Sink::Discard];
        drop(self.0.shared.with(|channel| channel.open(request, sinks)));
    }

    /// Waits for the agent to answer a ping; returns the round-trip time.
    ///
    /// # Errors
    /// Without a session, and when it ends.
    pub async fn ping(&self) -> Result<Duration, CallError> {
        let started = Instant::now();
        let answer = self.0.shared.with(ChannelState::ping)?;
        match answer.await {
            Ok(()) => Ok(started.elapsed()),
            Err(_) => {
                let reason = self.0.shared.reason();
                Err(CallError::Channel(
                    reason.unwrap_or(Arc::new(ChannelError::SessionOver)),
                ))
            }
        }
    }

    /// Whether the agent answers within `limit`.
    pub async fn answers_within(&self, limit: Duration) -> bool {
        matches!(tokio::time::timeout(limit, self.ping()).await, Ok(Ok(_)))
    }

    /// Which of the streams given to [`Channel::establish`] is in use.
    pub fn transport(&self) -> usize {
        self.0.transport
    }

    /// The last announcement of the agent. A new one in the middle of a session is a reboot: all
    /// calls have failed then, and [`Channel::resync`] starts over.
    pub fn announcements(&self) -> watch::Receiver<Option<Announcement>> {
        self.0.shared.announcements.subscribe()
    }

    /// Why the channel was closed; `None` while it is not.
    pub fn closed(&self) -> watch::Receiver<Option<Arc<ChannelError>>> {
        self.0.shared.closed.subscribe()
    }

    /// Why calls would fail now; `None` while there is a session.
    pub fn reason(&self) -> Option<Arc<ChannelError>> {
        self.0.shared.reason()
    }

    /// Closes the channel: every pending and later call fails with `reason`, or with an earlier reason if
    /// the channel is closed already.
    pub fn shut_down(&self, reason: impl Into<String>) {
        self.0.end(reason.into());
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }
}

impl Inner {
    fn end(&self, reason: String) {
        self.shared.die(ChannelError::ShutDown(reason));
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// The reply to a request, as the type that the request names.
pub(crate) fn typed<R: Request>(reply: Reply) -> Result<R::Reply, CallError> {
    FromReply::from_reply(reply).ok_or(CallError::Unexpected(R::NAME))
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end("the channel to the guest is not in use any more".to_owned());
    }
}

fn identity(hello: &HostHello, expected_build: &str) -> Identity {
    Identity {
        protocol: hello.protocol,
        host_build: hello.build.clone(),
        expected_build: expected_build.to_owned(),
    }
}
