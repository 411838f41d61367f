//! The handle of a channel.

use crate::asks::{self, AnswerAsk};
use crate::call::Call;
use crate::capture::Capture;
use crate::cut::{CommandMark, Cut};
use crate::error::{CallError, ChannelError};
use crate::establish::{Heard, first_heard};
use crate::handshake::{After, Opening};
use crate::incoming::Sink;
use crate::lane::LaneHandle;
use crate::outgoing::Outgoing;
use crate::reader::Reader;
use crate::session::{Announcement, Identity};
use crate::shared::{FirstRequest, Opened, Shared};
use crate::writer;
use provium_protocol::message::SpawnedWorker;
use provium_protocol::op::{Batch, FromReply, PowerOff, SetIdentity, WorkerSpec};
use provium_protocol::{
    AgentOp, FrameDecoder, Hello, HostHello, Lane, Op, Reply, Request, WireError,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// The host's end of the stream to one guest's agent. Cheap to clone; the last clone to go, calls
/// counted, closes the stream.
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
        asks: Arc<dyn AnswerAsk>,
    ) -> Result<(Self, Hello), ChannelError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let identity = identity(&hello, expected_build);
        let Heard {
            index,
            stream,
            decoder,
            hello: heard,
        } = first_heard(streams).await.ok_or(ChannelError::NoAgent)?;
        if let Some(heard) = &heard {
            identity.check(heard)?;
        }
        let first = heard.map(|hello| Announcement { number: 1, hello });
        let channel = Self::start(stream, decoder, Shared::new(identity, first), asks, index);
        let shared = &channel.0.shared;
        let opened = shared.handshake(hello, Opening::AtOnce, None).await?;
        Ok((channel, opened.hello))
    }

    /// The channel of a guest that was copied at `cut`, on the copy's stream. There is no handshake:
    /// the copy is in the middle of the session. `build` is that of the agent in it, which the host
    /// shares.
    ///
    /// The agent stays silent until the first word, which [`Channel::set_identity`] is meant to be; calls are
    /// to be [taken up](LaneHandle::take_up) before that. The channel's tasks run on the runtime that
    /// this is called on.
    pub fn resume<S>(stream: S, cut: &Cut, build: &str, asks: Arc<dyn AnswerAsk>) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let identity = Identity {
            protocol: provium_protocol::PROTOCOL_VERSION,
            host_build: build.to_owned(),
            expected_build: build.to_owned(),
        };
        let shared = Shared::resumed(identity, cut);
        Self::start(stream, FrameDecoder::in_step(), shared, asks, cut.transport)
    }

    /// The call that a mark is of; one that is over, if there is none.
    pub(crate) fn take_up(
        &self,
        lane: Lane,
        mark: &CommandMark,
        outputs: [Arc<Capture>; 2],
    ) -> Call {
        let cell = self
            .0
            .shared
            .call(mark.call)
            .filter(|cell| cell.lane == lane);
        let cell = match cell {
            Some(cell) => {
                cell.take_up(mark.pid, outputs);
                cell
            }
            None => self.0.shared.lost(lane),
        };
        Call::new(self.clone(), cell)
    }

    fn start<S>(
        stream: S,
        decoder: FrameDecoder,
        shared: Shared,
        asks: Arc<dyn AnswerAsk>,
        transport: usize,
    ) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let shared = Arc::new(shared);
        let (read, write) = tokio::io::split(stream);
        let (questions, waiting) = mpsc::channel(asks::WAITING_LIMIT);
        let reader = Reader::new(Arc::clone(&shared), decoder, questions);
        let tasks = vec![
            tokio::spawn(reader.run(read)).abort_handle(),
            tokio::spawn(writer::run(Arc::clone(&shared), write)).abort_handle(),
            tokio::spawn(asks::run(Arc::clone(&shared), waiting, asks)).abort_handle(),
        ];
        Self(Arc::new(Inner {
            shared,
            tasks,
            transport,
        }))
    }

    /// Starts a new session on the same stream: all calls of the old one fail (with "the guest was
    /// rebooted" after a reboot), then the agent is greeted anew, again each second, until it
    /// answers. Mends a channel that the agent's violation has closed, too.
    ///
    /// Sets no deadline; dropping the future leaves the channel without a session.
    ///
    /// # Errors
    /// When the stream is closed, or the agent is another.
    pub async fn resync(&self, hello: HostHello, after: After) -> Result<Hello, ChannelError> {
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
        after: After,
        identity: impl FnOnce() -> SetIdentity + Send + 'static,
    ) -> Result<Hello, CallError> {
        let first: FirstRequest = Box::new(|| identity().into());
        let opened = self.start_over(hello, after, Some(first)).await;
        let Opened { hello, first } = opened.map_err(|why| CallError::Channel(Arc::new(why)))?;
        if let Some(call) = first {
            let reply = Call::new(self.clone(), call).reply().await?;
            typed::<SetIdentity>(reply)?;
        }
        Ok(hello)
    }

    async fn start_over(
        &self,
        hello: HostHello,
        after: After,
        first: Option<FirstRequest>,
    ) -> Result<Opened, ChannelError> {
        let shared = &self.0.shared;
        let (reason, opening) = match after {
            After::Reboot => (ChannelError::Rebooted, Opening::OnAnnouncement),
            After::Silence => (ChannelError::SessionOver, Opening::AtOnce),
        };
        shared.end_session(reason, after == After::Reboot);
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

    /// Requests something of the agent itself, and waits for the reply. Dropping the future cancels the
    /// call.
    ///
    /// # Errors
    /// What the guest answers, and the end of the session.
    pub async fn call<R: Request + Into<AgentOp>>(
        &self,
        request: R,
    ) -> Result<R::Reply, CallError> {
        let request = Outgoing::to_agent(&request.into());
        let sinks = [Sink::Discard, Sink::Discard];
        let mut call = Call::new(self.clone(), self.0.shared.open(request, sinks));
        typed::<R>(call.reply().await?)
    }

    /// Makes a call. When the channel has no session, the call's outcome says so.
    pub fn open(&self, lane: Lane, op: &Op) -> Call {
        self.open_into(lane, op, [Sink::Queue, Sink::Queue])
    }

    pub(crate) fn open_into(&self, lane: Lane, op: &Op, sinks: [Sink; 2]) -> Call {
        let cell = self.0.shared.open(Outgoing::to_lane(lane, op), sinks);
        Call::new(self.clone(), cell)
    }

    /// Makes a call that is carried out whenever the guest comes to it. Nobody learns what came of it,
    /// and nothing cancels it but the end of the session.
    pub fn post(&self, lane: Lane, op: &Op) {
        let request = Outgoing::to_lane(lane, op);
        drop(self.0.shared.open(request, [Sink::Discard, Sink::Discard]));
    }

    /// Asks the agent itself for a sign of life; gives the round-trip time.
    ///
    /// # Errors
    /// When there is no session, or it ends.
    pub async fn ping(&self) -> Result<Duration, CallError> {
        let started = Instant::now();
        let answer = self.0.shared.ping()?;
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

    /// A lane of this guest, with its typed operations.
    pub fn lane(&self, lane: Lane) -> LaneHandle {
        LaneHandle::new(self.clone(), lane)
    }

    /// Starts a worker. One whose reply nobody waits for any more is retired.
    ///
    /// # Errors
    /// What the guest answers, and the end of the session.
    pub async fn spawn_worker(&self, spec: WorkerSpec) -> Result<SpawnedWorker, CallError> {
        let worker = self.lane(Lane::VM).call(spec).await?;
        if worker.lane < Lane::FIRST_WORKER {
            return Err(CallError::Unexpected(WorkerSpec::NAME));
        }
        Ok(worker)
    }

    /// Runs ops in one round trip, in order; gives one result for each that was begun. Where results
    /// grow large, the guest stops early: the others are to be sent again.
    ///
    /// # Errors
    /// As for every call; an entry's own failure is in its result.
    pub async fn batch(
        &self,
        lane: Lane,
        ops: Vec<Op>,
    ) -> Result<Vec<Result<Reply, WireError>>, CallError> {
        let count = ops.len();
        let results = self.lane(lane).call(Batch { ops }).await?;
        if !(count.min(1)..=count).contains(&results.len()) {
            return Err(CallError::Unexpected(Batch::NAME));
        }
        Ok(results)
    }

    /// Writes back what is dirty and switches the guest off. A reply may or may not come first.
    ///
    /// # Errors
    /// What the guest answers. That the channel ended is none.
    pub async fn power_off(&self) -> Result<(), CallError> {
        match self.call(PowerOff).await {
            Ok(()) | Err(CallError::Channel(_)) => Ok(()),
            Err(error) => Err(error),
        }
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

    /// Gives the channel up: every pending and later call fails with `reason`. If it has ended
    /// already, its first reason stands.
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
        self.end("the channel to the guest is no longer in use".to_owned());
    }
}

fn identity(hello: &HostHello, expected_build: &str) -> Identity {
    Identity {
        protocol: hello.protocol,
        host_build: hello.build.clone(),
        expected_build: expected_build.to_owned(),
    }
}
