//! An agent that sends what a test wants.

use provium_protocol::frame::{Item, SYNC};
use provium_protocol::{
    AgentOp, CallId, Frame, FrameDecoder, FrameKind, Hello, HostHello, Lane, Op, PROTOCOL_VERSION,
    Reply, WireError, codec,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// The build that fakes and their hosts agree on.
pub const BUILD: &str = "test-build";

/// The hello of a fake agent.
pub fn agent_hello(session: u64) -> Hello {
    Hello {
        protocol: PROTOCOL_VERSION,
        build: BUILD.to_owned(),
        session,
        kernel: "6.1.0-fake".to_owned(),
        is_init: true,
        uptime_ns: 1_000_000_000,
        warnings: Vec::new(),
    }
}

/// The hello of a host for a fake agent; the channel chooses the session.
pub fn host_hello() -> HostHello {
    HostHello {
        protocol: PROTOCOL_VERSION,
        build: BUILD.to_owned(),
        session: 0,
    }
}

/// One end of a stream, spoken by the test frame by frame.
#[derive(Debug)]
pub struct FakeAgent {
    pub(crate) stream: UnixStream,
    pub(crate) decoder: FrameDecoder,
    pub(crate) hello: Hello,
}

impl FakeAgent {
    /// The host's end, and the agent.
    pub fn pair() -> (UnixStream, Self) {
        let (host, stream) = UnixStream::pair().expect("a socket pair can be made");
        (
            host,
            Self {
                stream,
                decoder: FrameDecoder::new(),
                hello: agent_hello(0),
            },
        )
    }

    /// Says something else of itself.
    pub fn set_hello(&mut self, hello: Hello) {
        self.hello = hello;
    }

    /// Sends bytes as they are.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.try_send_bytes(bytes).await.expect("the host reads");
    }

    /// As [`FakeAgent::send_bytes`], for a host that may have gone.
    ///
    /// # Errors
    /// When it has.
    pub async fn try_send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Sends a frame.
    pub async fn send(&mut self, frame: &Frame) {
        self.send_bytes(&frame.to_bytes()).await;
    }

    /// Sends a reply.
    pub async fn reply(&mut self, to: &Frame, reply: Result<Reply, WireError>) {
        let message = codec::encode(&reply);
        for frame in Frame::split(FrameKind::Reply, to.lane, to.call, &message) {
            self.send(&frame).await;
        }
    }

    /// Sends SYNC and the hello of a session; 0 announces.
    pub async fn say_hello(&mut self, session: u64) {
        let bytes = greeting(&Hello {
            session,
            ..self.hello.clone()
        });
        self.send_bytes(&bytes).await;
    }

    /// What the host sends next; `None` when it has gone.
    pub async fn next_item(&mut self) -> Option<Item> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(item) = self.decoder.next_item().expect("the host sends frames") {
                return Some(item);
            }
            match self.stream.read(&mut buffer).await {
                Ok(read) if read > 0 => self.decoder.push(&buffer[..read]),
                _ => return None,
            }
        }
    }

    /// The next frame of the host; SYNCs are passed over.
    pub async fn next_frame(&mut self) -> Frame {
        loop {
            match self.next_item().await.expect("the host is connected") {
                Item::Frame(frame) => return frame,
                Item::Sync => {}
            }
        }
    }

    /// The next frame, which is a request to a lane in one piece.
    pub async fn next_request(&mut self) -> (Frame, Op) {
        let frame = self.request_frame().await;
        let op = codec::decode(&frame.payload).expect("the host sends operations");
        (frame, op)
    }

    /// The next frame, which is a request to the agent itself in one piece.
    pub async fn next_agent_request(&mut self) -> (Frame, AgentOp) {
        let frame = self.request_frame().await;
        let op = codec::decode(&frame.payload).expect("the host sends the agent's operations");
        (frame, op)
    }

    async fn request_frame(&mut self) -> Frame {
        let frame = self.next_frame().await;
        assert_eq!(frame.kind, FrameKind::Request, "{frame:?}");
        assert!(!frame.more, "a short request is expected");
        frame
    }

    /// Waits for the host's hello.
    pub async fn host_hello(&mut self) -> HostHello {
        let frame = self.next_frame().await;
        assert_eq!(frame.kind, FrameKind::Hello, "{frame:?}");
        codec::decode(&frame.payload).expect("the host sends a hello")
    }

    /// Announces itself and agrees on a session.
    pub async fn greet(&mut self) -> HostHello {
        self.say_hello(0).await;
        let hello = self.host_hello().await;
        self.say_hello(hello.session).await;
        hello
    }
}

pub(crate) fn greeting(hello: &Hello) -> Vec<u8> {
    let mut bytes = SYNC.to_vec();
    let message = codec::encode(hello);
    Frame::new(FrameKind::Hello, Lane::AGENT, CallId(0), message).encode(&mut bytes);
    bytes
}
