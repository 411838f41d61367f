//! The host's end of an agent that runs as an ordinary process.

use provium_protocol::frame::{Assembler, INITIAL_WINDOW, Item, SYNC};
use provium_protocol::op::{Exec, Syscall};
use provium_protocol::{
    AgentOp, CallId, Event, Frame, FrameDecoder, FrameKind, Hello, HostHello, HostReply, Lane, Op,
    Reply, StreamId, WireError, codec,
};
use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};
use std::time::Duration;

/// The agent's executable.
pub(crate) const AGENT: &str = env!("CARGO_BIN_EXE_provium-agent");

pub(crate) type Answer = Result<Reply, WireError>;

/// What came of a call so far.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) output: Vec<u8>,
    pub(crate) error: Vec<u8>,
    pub(crate) events: Vec<Event>,
    pub(crate) credit: u64,
    /// The end of the output stream has come.
    pub(crate) ended: bool,
    pub(crate) reply: Option<Answer>,
    assembler: Assembler,
}

pub(crate) struct Host {
    child: Child,
    line: UnixStream,
    decoder: FrameDecoder,
    next: u32,
    pub(crate) calls: BTreeMap<CallId, Heard>,
    pub(crate) hellos: VecDeque<Hello>,
    pub(crate) pongs: u32,
    /// Whether what came is granted again at once.
    pub(crate) grants: bool,
}

impl Host {
    /// Starts an agent, without a session.
    pub(crate) fn bare() -> Self {
        Self::started_by(&mut Command::new(AGENT))
    }

    /// Starts an agent and a session with it. `command` becomes the agent: it is run with further
    /// arguments for it.
    pub(crate) fn of(command: &mut Command) -> Self {
        let mut host = Self::started_by(command);
        host.greet(7);
        host
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the test kills and reaps it itself"
    )]
    fn started_by(command: &mut Command) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let inherited = inheritable_copy(&theirs);
        let child = command
            .args(["--serve-fd", &inherited.to_string()])
            .spawn()
            .unwrap();
        close(inherited);
        // A wait without an end would hide the failure that it waits for.
        ours.set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Self {
            child,
            line: ours,
            decoder: FrameDecoder::new(),
            next: 1,
            calls: BTreeMap::new(),
            hellos: VecDeque::new(),
            pongs: 0,
            grants: true,
        }
    }

    /// Starts an agent and a session with it.
    pub(crate) fn new() -> Self {
        let mut host = Self::bare();
        host.greet(7);
        host
    }

    pub(crate) fn greet(&mut self, session: u64) -> Hello {
        let hello = HostHello {
            protocol: provium_protocol::PROTOCOL_VERSION,
            build: "dev".into(),
            session,
        };
        self.raw(&SYNC);
        let frame = Frame::new(
            FrameKind::Hello,
            Lane::AGENT,
            CallId(0),
            codec::encode(&hello),
        );
        self.send(&frame);
        loop {
            while let Some(hello) = self.hellos.pop_front() {
                if hello.session == session {
                    return hello;
                }
            }
            self.hear();
        }
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.line.write_all(bytes).unwrap();
    }

    pub(crate) fn send(&mut self, frame: &Frame) {
        self.raw(&frame.to_bytes());
    }

    /// Takes in what comes next.
    pub(crate) fn hear(&mut self) {
        let mut buffer = vec![0; 256 * 1024];
        let got = self
            .line
            .read(&mut buffer)
            .expect("the agent says something in time");
        assert!(got > 0, "the agent ended");
        self.decoder.push(&buffer[..got]);
        while let Some(item) = self.decoder.next_item().unwrap() {
            if let Item::Frame(frame) = item {
                self.take(frame);
            }
        }
    }

    fn take(&mut self, frame: Frame) {
        match frame.kind {
            FrameKind::Hello => self
                .hellos
                .push_back(codec::decode(&frame.payload).unwrap()),
            FrameKind::Pong => self.pongs += 1,
            FrameKind::GuestRequest => {
                // There are no modules.
                let reply = codec::encode(&HostReply::Modules(Vec::new()));
                let kind = FrameKind::HostReply;
                self.send(&Frame::new(kind, frame.lane, frame.call, reply));
            }
            _ => {
                let heard = self.calls.get_mut(&frame.call).expect("a call of ours");
                assert!(heard.reply.is_none(), "nothing follows a reply");
                match frame.kind {
                    FrameKind::Data => {
                        let into = match frame.stream {
                            StreamId::Error => &mut heard.error,
                            _ => &mut heard.output,
                        };
                        into.extend_from_slice(&frame.payload);
                        let len = u32::try_from(frame.payload.len()).unwrap();
                        if self.grants {
                            self.send(&Frame::credit(frame.lane, frame.call, frame.stream, len));
                        }
                    }
                    FrameKind::Credit => heard.credit += u64::from(frame.granted().unwrap()),
                    FrameKind::End => heard.ended |= frame.stream == StreamId::Output,
                    FrameKind::Event => heard.events.push(codec::decode(&frame.payload).unwrap()),
                    FrameKind::Reply => {
                        if let Some(message) = heard.assembler.push(&frame).unwrap() {
                            heard.reply = Some(codec::decode(&message).unwrap());
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    pub(crate) fn request(&mut self, lane: Lane, op: &Op) -> CallId {
        self.send_request(lane, &codec::encode(op))
    }

    fn send_request(&mut self, lane: Lane, message: &[u8]) -> CallId {
        let call = CallId(self.next);
        self.next += 1;
        self.calls.insert(
            call,
            Heard {
                credit: u64::from(INITIAL_WINDOW),
                ..Heard::default()
            },
        );
        for frame in Frame::split(FrameKind::Request, lane, call, message) {
            self.send(&frame);
        }
        call
    }

    /// Waits for the reply.
    pub(crate) fn finish(&mut self, call: CallId) -> Heard {
        while self.calls[&call].reply.is_none() {
            self.hear();
        }
        self.calls.remove(&call).unwrap()
    }

    pub(crate) fn ask(&mut self, lane: Lane, op: &Op) -> Answer {
        let call = self.request(lane, op);
        self.finish(call).reply.unwrap()
    }

    pub(crate) fn request_agent(&mut self, op: &AgentOp) -> CallId {
        self.send_request(Lane::AGENT, &codec::encode(op))
    }

    pub(crate) fn ask_agent(&mut self, op: &AgentOp) -> Answer {
        let call = self.request_agent(op);
        self.finish(call).reply.unwrap()
    }

    pub(crate) fn cancel(&mut self, lane: Lane, call: CallId) {
        self.send(&Frame::new(FrameKind::Cancel, lane, call, Vec::new()));
    }

    /// Sends input as credit allows, then its end.
    pub(crate) fn input(&mut self, lane: Lane, call: CallId, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.calls[&call].reply.is_none() {
            let credit = usize::try_from(self.calls[&call].credit).unwrap();
            if credit == 0 {
                self.hear();
                continue;
            }
            let (now, later) = bytes.split_at(bytes.len().min(credit).min(60_000));
            self.calls.get_mut(&call).unwrap().credit -= now.len() as u64;
            self.send(&Frame::data(lane, call, StreamId::Input, now.to_vec()));
            bytes = later;
        }
        self.send(&Frame::end(lane, call, StreamId::Input));
    }

    /// Waits for the command's `Started`, and gives its process id.
    pub(crate) fn started(&mut self, call: CallId) -> u32 {
        loop {
            let heard = &self.calls[&call];
            if let Some(Event::Started { pid }) = heard.events.first() {
                return *pid;
            }
            assert!(heard.reply.is_none(), "it never started: {:?}", heard.reply);
            self.hear();
        }
    }

    pub(crate) fn sh(&mut self, lane: Lane, text: &str) -> Heard {
        let call = self.request(lane, &Op::Exec(shell(text)));
        self.finish(call)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.line.shutdown(std::net::Shutdown::Both);
        let _ = self.child.wait();
    }
}

/// A copy that a child inherits.
fn inheritable_copy(stream: &UnixStream) -> i32 {
    // SAFETY: no pointers.
    unsafe { libc::dup(stream.as_raw_fd()) }
}

fn close(fd: i32) {
    // SAFETY: ours, from `inheritable_copy`.
    unsafe { libc::close(fd) };
}

pub(crate) fn shell(text: &str) -> Exec {
    Exec::shell(text)
}

pub(crate) fn syscall(nr: i64, args: &[i64]) -> Syscall {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    Syscall {
        nr,
        args: all,
        buffers: Vec::new(),
        pointers: Vec::new(),
        nested: Vec::new(),
        background: false,
    }
}
