//! An agent in step: it keeps the protocol, and a function of the test's answers each call.
//!
//! It also watches the host: what a host may not do (a call id used twice, data over the window) is
//! counted as a fault.

use crate::fake::{FakeAgent, greeting};
use provium_protocol::frame::{Assembler, INITIAL_WINDOW, Item};
use provium_protocol::{
    CallId, ErrorKind, Event, Frame, FrameKind, Hello, HostHello, Lane, Op, Reply, StreamId,
    WireError, codec,
};
use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};

/// Longest payload of a data frame, bytes.
const CHUNK: usize = 32 * 1024;

/// A future of a [`Guest`].
pub type ReplyFuture = Pin<Box<dyn Future<Output = Result<Reply, WireError>> + Send>>;

/// Answers calls. Each runs in a task of its own and is dropped when it is cancelled.
pub trait Guest: Send + Sync + 'static {
    /// What the call comes to.
    fn handle(&self, call: GuestCall) -> ReplyFuture;
}

impl<F: Fn(GuestCall) -> ReplyFuture + Send + Sync + 'static> Guest for F {
    fn handle(&self, call: GuestCall) -> ReplyFuture {
        self(call)
    }
}

/// What a [`ServingAgent`] has seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests.
    pub requests: u64,
    /// Calls that were cancelled before they were done.
    pub cancelled: u64,
    /// Requests without a reply yet.
    pub open: usize,
    /// What the host did that it may not.
    pub faults: Vec<String>,
}

/// A serving agent; it ends when this is dropped.
#[derive(Debug)]
pub struct ServingAgent {
    task: AbortHandle,
    counts: Arc<Mutex<Counts>>,
    out: mpsc::Sender<Vec<u8>>,
    hello: Hello,
    ended: Arc<Notify>,
}

impl ServingAgent {
    /// Announces the agent, and serves.
    pub fn start(agent: FakeAgent, guest: Arc<dyn Guest>) -> Self {
        let counts = Arc::new(Mutex::new(Counts::default()));
        let (out, outgoing) = mpsc::channel(16);
        let ended = Arc::new(Notify::new());
        let hello = agent.hello.clone();
        let server = Server {
            guest,
            counts: Arc::clone(&counts),
            out: out.clone(),
            hello: hello.clone(),
            calls: HashMap::new(),
            requests: HashMap::new(),
            ids: HashSet::new(),
            tasks: JoinSet::new(),
        };
        let end = Arc::clone(&ended);
        let task = tokio::spawn(async move {
            server.run(agent, outgoing).await;
            end.notify_one();
        });
        Self {
            task: task.abort_handle(),
            counts,
            out,
            hello,
            ended,
        }
    }

    /// What was seen so far.
    pub fn counts(&self) -> Counts {
        lock(&self.counts).clone()
    }

    /// Sends bytes as they are, between two frames.
    pub async fn send_bytes(&self, bytes: Vec<u8>) {
        self.out.send(bytes).await.expect("the agent serves");
    }

    /// Announces itself, as after a reboot.
    pub async fn announce(&self) {
        self.send_bytes(greeting(&Hello {
            session: 0,
            ..self.hello.clone()
        }))
        .await;
    }

    /// Waits for the host to hang up.
    pub async fn ended(&self) {
        self.ended.notified().await;
    }
}

impl Drop for ServingAgent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A call, as the guest sees it.
#[derive(Debug)]
pub struct GuestCall {
    /// Where it was sent.
    pub lane: Lane,
    /// Its id.
    pub id: CallId,
    /// The operation.
    pub op: Op,
    input: mpsc::UnboundedReceiver<Vec<u8>>,
    taken: u32,
    windows: Arc<Windows>,
    out: mpsc::Sender<Vec<u8>>,
}

#[derive(Debug)]
struct Windows {
    output: [Semaphore; 2],
    input: Mutex<u64>,
}

impl GuestCall {
    /// The next bytes of the input stream; `None` at its end. Grants the host more.
    pub async fn input(&mut self) -> Option<Vec<u8>> {
        let bytes = self.input.recv().await?;
        self.taken += u32::try_from(bytes.len()).expect("a frame is short");
        if self.taken >= INITIAL_WINDOW / 2 {
            let bytes = std::mem::take(&mut self.taken);
            *lock(&self.windows.input) += u64::from(bytes);
            self.send(Frame::credit(self.lane, self.id, StreamId::Input, bytes))
                .await;
        }
        Some(bytes)
    }

    /// Sends bytes on an output stream, as the host takes them.
    pub async fn output(&self, stream: StreamId, bytes: &[u8]) {
        let window = match stream {
            StreamId::Error => &self.windows.output[1],
            _ => &self.windows.output[0],
        };
        for piece in bytes.chunks(CHUNK) {
            let len = u32::try_from(piece.len()).expect("a chunk is short");
            window
                .acquire_many(len)
                .await
                .expect("it is not closed")
                .forget();
            self.send(Frame::data(self.lane, self.id, stream, piece.to_vec()))
                .await;
        }
    }

    /// Ends an output stream.
    pub async fn end(&self, stream: StreamId) {
        self.send(Frame::end(self.lane, self.id, stream)).await;
    }

    /// Sends an event.
    pub async fn event(&self, event: Event) {
        let message = codec::encode(&event);
        self.send(Frame::new(FrameKind::Event, self.lane, self.id, message))
            .await;
    }

    async fn send(&self, frame: Frame) {
        // The host may have gone; the task is about to end then.
        let _ = self.out.send(frame.to_bytes()).await;
    }
}

struct OpenCall {
    cancel: Arc<Notify>,
    input: Option<mpsc::UnboundedSender<Vec<u8>>>,
    windows: Arc<Windows>,
}

struct Server {
    guest: Arc<dyn Guest>,
    counts: Arc<Mutex<Counts>>,
    out: mpsc::Sender<Vec<u8>>,
    hello: Hello,
    calls: HashMap<CallId, OpenCall>,
    requests: HashMap<CallId, Assembler>,
    /// All ids the session has seen: frames of the host may cross with the reply.
    ids: HashSet<CallId>,
    tasks: JoinSet<CallId>,
}

impl Server {
    async fn run(mut self, agent: FakeAgent, mut outgoing: mpsc::Receiver<Vec<u8>>) {
        let FakeAgent {
            stream,
            mut decoder,
            ..
        } = agent;
        let (mut read, mut write) = stream.into_split();
        let writer = tokio::spawn(async move {
            while let Some(bytes) = outgoing.recv().await {
                if write.write_all(&bytes).await.is_err() {
                    break;
                }
            }
        });
        let _writer = AbortOnDrop(writer.abort_handle());
        self.send(greeting(&self.hello.clone())).await;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            while let Some(item) = decoder.next_item().expect("the host sends frames") {
                match item {
                    Item::Sync => {}
                    Item::Frame(frame) => self.frame(frame).await,
                }
            }
            tokio::select! {
                result = read.read(&mut buffer) => match result {
                    Ok(read) if read > 0 => decoder.push(&buffer[..read]),
                    _ => return,
                },
                Some(done) = self.tasks.join_next() => {
                    if let Ok(id) = done {
                        self.calls.remove(&id);
                    }
                }
            }
        }
    }

    async fn send(&self, bytes: Vec<u8>) {
        // The host may have gone, which the reader sees.
        let _ = self.out.send(bytes).await;
    }

    fn fault(&self, text: String) {
        lock(&self.counts).faults.push(text);
    }

    async fn frame(&mut self, frame: Frame) {
        // Calls that are done give their ids back before anything new is looked at.
        while let Some(done) = self.tasks.try_join_next() {
            if let Ok(id) = done {
                self.calls.remove(&id);
            }
        }
        match frame.kind {
            FrameKind::Hello => {
                let hello: HostHello = codec::decode(&frame.payload).expect("a hello");
                // Nothing of the old session may be sent after the answer.
                self.tasks.shutdown().await;
                self.calls.clear();
                self.ids.clear();
                lock(&self.counts).open = 0;
                let answer = Hello {
                    session: hello.session,
                    ..self.hello.clone()
                };
                self.send(greeting(&answer)).await;
            }
            FrameKind::Ping => {
                let pong = Frame::new(FrameKind::Pong, frame.lane, frame.call, Vec::new());
                self.send(pong.to_bytes()).await;
            }
            FrameKind::Request => self.request(&frame),
            FrameKind::Data | FrameKind::End | FrameKind::Credit | FrameKind::Cancel => {
                if !self.ids.contains(&frame.call) {
                    self.fault(format!("{:?} for a call that never was", frame.kind));
                }
                self.about_call(frame);
            }
            FrameKind::HostReply => {}
            other => self.fault(format!("{other:?} from the host")),
        }
    }

    fn about_call(&mut self, frame: Frame) {
        let Some(open) = self.calls.get_mut(&frame.call) else {
            return;
        };
        match frame.kind {
            FrameKind::Data => {
                let mut window = lock(&open.windows.input);
                let left = window.checked_sub(frame.payload.len() as u64);
                *window = left.unwrap_or(0);
                drop(window);
                match &open.input {
                    // The guest's side may have closed it.
                    Some(input) => drop(input.send(frame.payload)),
                    None => self.fault("data after the end".to_owned()),
                }
                if left.is_none() {
                    self.fault("data over the window".to_owned());
                }
            }
            FrameKind::End => open.input = None,
            FrameKind::Credit => {
                let bytes = frame.granted().expect("credit is a number");
                let slot = usize::from(frame.stream == StreamId::Error);
                open.windows.output[slot].add_permits(bytes as usize);
            }
            _ => open.cancel.notify_one(),
        }
    }

    fn request(&mut self, frame: &Frame) {
        if self.calls.contains_key(&frame.call) {
            self.fault(format!("call {} requested twice", frame.call.0));
            return;
        }
        let assembler = self.requests.entry(frame.call).or_default();
        let Some(message) = assembler.push(frame).expect("requests are bounded") else {
            return;
        };
        self.requests.remove(&frame.call);
        let op: Op = codec::decode(&message).expect("the host sends ops");
        self.ids.insert(frame.call);
        let (input, received) = mpsc::unbounded_channel();
        let window = INITIAL_WINDOW as usize;
        let windows = Arc::new(Windows {
            output: [Semaphore::new(window), Semaphore::new(window)],
            input: Mutex::new(u64::from(INITIAL_WINDOW)),
        });
        let cancel = Arc::new(Notify::new());
        let open = OpenCall {
            cancel: Arc::clone(&cancel),
            input: Some(input),
            windows: Arc::clone(&windows),
        };
        self.calls.insert(frame.call, open);
        {
            let mut counts = lock(&self.counts);
            counts.requests += 1;
            counts.open += 1;
        }
        let (lane, id) = (frame.lane, frame.call);
        let call = GuestCall {
            lane,
            id,
            op,
            input: received,
            taken: 0,
            windows,
            out: self.out.clone(),
        };
        let (guest, out) = (Arc::clone(&self.guest), self.out.clone());
        let counts = Arc::clone(&self.counts);
        self.tasks.spawn(async move {
            let reply = tokio::select! {
                reply = guest.handle(call) => reply,
                () = cancel.notified() => {
                    lock(&counts).cancelled += 1;
                    Err(WireError { kind: ErrorKind::Cancelled, errno: 0, message: "cancelled".to_owned() })
                }
            };
            let message = codec::encode(&reply);
            let frames: Vec<_> = Frame::split(FrameKind::Reply, lane, id, &message).collect();
            let last = frames.len() - 1;
            for (index, frame) in frames.into_iter().enumerate() {
                if index == last {
                    let mut counts = lock(&counts);
                    counts.open = counts.open.saturating_sub(1);
                }
                // The host may have gone.
                let _ = out.send(frame.to_bytes()).await;
            }
            id
        });
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
