//! The byte stream to the host: decoding, output, announcement, session.

use super::outgoing::ExecutorQueue;
use crate::sys::{boot, clock};
use crate::transport::{Kind, ReadOutcome, Transport};
use provium_protocol::frame::{Assembler, HEADER_LEN, Item, MAX_PAYLOAD, SYNC};
use provium_protocol::{
    CallId, Frame, FrameDecoder, FrameKind, Hello, HostHello, Lane, PROTOCOL_VERSION, codec,
};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

/// Between two announcements on a serial line, where the first may have been lost.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(1);
/// How long a stream without a host is not polled.
const ABSENT_RETRY_DELAY: Duration = Duration::from_millis(20);
const READS_PER_TURN: usize = 64;

/// Hash of the sources that this agent was built from.
const BUILD: &str = match option_env!("PROVIUM_BUILD") {
    Some(build) => build,
    None => "dev",
};

pub(super) struct HostLink {
    transport: Transport,
    decoder: FrameDecoder,
    out: ExecutorQueue,
    /// Whether the agent is process 1.
    is_init: bool,
    /// What the agent could not do when the machine booted.
    warnings: Vec<String>,
    session: Option<u64>,
    /// A SYNC has arrived, and the hello that follows it in part.
    pending_hello: Option<Assembler>,
    announced: Instant,
    absent_until: Option<Instant>,
    buffer: Vec<u8>,
}

/// What the host has sent.
pub(super) enum HostMessage {
    /// The start of a session follows.
    Sync,
    /// The host greets, so a session begins with this number; the one before, if any, is over.
    Session(u64),
    /// Of the session.
    Frame(Frame),
    /// Of no session, or a part of a greeting.
    Ignored(FrameKind),
}

impl HostLink {
    pub(super) fn new(transport: Transport, is_init: bool, warnings: Vec<String>) -> Self {
        Self {
            transport,
            decoder: FrameDecoder::new(),
            out: ExecutorQueue::default(),
            is_init,
            warnings,
            session: None,
            pending_hello: None,
            announced: Instant::now(),
            absent_until: None,
            buffer: vec![0; HEADER_LEN + MAX_PAYLOAD],
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.transport.kind
    }

    pub(super) fn has_session(&self) -> bool {
        self.session.is_some()
    }

    /// The descriptor and the events to poll it for; `None`: not now.
    pub(super) fn interest(&mut self) -> Option<(RawFd, i16)> {
        if self
            .absent_until
            .is_some_and(|until| Instant::now() < until)
        {
            return None;
        }
        self.absent_until = None;
        let writing = if self.out.is_empty() {
            0
        } else {
            libc::POLLOUT
        };
        Some((self.transport.as_raw_fd(), libc::POLLIN | writing))
    }

    /// When [`HostLink::check_deadlines`] has something to do, or the stream is to be polled again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let announce = self
            .announces_again()
            .then(|| self.announced + ANNOUNCE_INTERVAL);
        announce.into_iter().chain(self.absent_until).min()
    }

    fn announces_again(&self) -> bool {
        self.transport.kind == Kind::Line && self.session.is_none()
    }

    pub(super) fn check_deadlines(&mut self, now: Instant) {
        if self.announces_again() && now >= self.announced + ANNOUNCE_INTERVAL {
            self.announce();
        }
    }

    /// Reads what has arrived; returns false if the host will not come back.
    pub(super) fn receive(&mut self, events: i16) -> bool {
        let mut any = false;
        for _ in 0..READS_PER_TURN {
            match self.transport.read(&mut self.buffer) {
                ReadOutcome::Bytes(len) => {
                    any = true;
                    self.decoder.push(&self.buffer[..len]);
                }
                ReadOutcome::Nothing => break,
                ReadOutcome::Gone if self.transport.kind == Kind::Socket => return false,
                ReadOutcome::Gone => {
                    self.absent_until = Some(Instant::now() + ABSENT_RETRY_DELAY);
                    break;
                }
            }
        }
        if !any && events & (libc::POLLHUP | libc::POLLERR) != 0 {
            self.absent_until = Some(Instant::now() + ABSENT_RETRY_DELAY);
        }
        true
    }

    /// Reads what has arrived, if anything has.
    pub(super) fn poll(&mut self) -> bool {
        match self.transport.read(&mut self.buffer) {
            ReadOutcome::Bytes(len) => {
                self.decoder.push(&self.buffer[..len]);
                true
            }
            ReadOutcome::Nothing | ReadOutcome::Gone => false,
        }
    }

    /// The next of what has been read. Bytes that are not frames are answered with an announcement, which
    /// makes the host begin again.
    pub(super) fn next(&mut self) -> Option<HostMessage> {
        loop {
            match self.decoder.next_item() {
                Ok(None) => return None,
                Ok(Some(Item::Sync)) => {
                    self.pending_hello = Some(Assembler::default());
                    return Some(HostMessage::Sync);
                }
                Ok(Some(Item::Frame(frame))) => return Some(self.sort(frame)),
                Err(_) => self.announce(),
            }
        }
    }

    fn sort(&mut self, frame: Frame) -> HostMessage {
        if frame.kind == FrameKind::Hello {
            let hello = self.pending_hello.as_mut();
            let message = hello.and_then(|hello| hello.push(&frame).ok().flatten());
            let Some(message) = message else {
                return HostMessage::Ignored(frame.kind);
            };
            self.pending_hello = None;
            return match codec::decode::<HostHello>(&message) {
                Ok(host) => HostMessage::Session(host.session),
                Err(_) => HostMessage::Ignored(frame.kind),
            };
        }
        if self.pending_hello.is_some() || self.session.is_none() {
            return HostMessage::Ignored(frame.kind);
        }
        HostMessage::Frame(frame)
    }

    /// Announces the agent to a host that has not greeted yet.
    pub(super) fn announce(&mut self) {
        self.hello(0);
        self.announced = Instant::now();
    }

    /// Starts a session: output of an older one is discarded.
    pub(super) fn begin_session(&mut self, session: u64) {
        self.out.clear();
        self.session = Some(session);
        self.hello(session);
    }

    fn hello(&mut self, session: u64) {
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            build: BUILD.to_owned(),
            session,
            kernel: boot::kernel_release(),
            is_init: self.is_init,
            uptime_ns: clock::since_boot(),
            warnings: self.warnings.clone(),
        };
        self.out.push(&SYNC);
        let message = codec::encode(&hello);
        self.send(FrameKind::Hello, Lane::AGENT, CallId(0), &message);
    }

    /// Sends a message of the router's own.
    pub(super) fn send(&mut self, kind: FrameKind, lane: Lane, call: CallId, message: &[u8]) {
        for frame in Frame::split(kind, lane, call, message) {
            self.out.push(&frame.to_bytes());
        }
    }

    /// Sends a frame that is encoded already.
    pub(super) fn forward(&mut self, frame: &[u8]) {
        self.out.push(frame);
    }

    pub(super) fn has_room(&self) -> bool {
        self.out.has_room()
    }

    /// Holds back output that comes from now on.
    pub(super) fn hold_output(&mut self) {
        self.out.hold();
    }

    pub(super) fn release_output(&mut self) {
        self.out.release();
    }

    /// Writes as much as the stream takes.
    pub(super) fn flush(&mut self) {
        self.out.flush(&self.transport);
    }
}
