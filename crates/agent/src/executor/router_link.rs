//! Messages to the router.
//!
//! A packet is one or more frames of one call: each packet wakes the router, which then interrupts whatever
//! runs. Any thread sends, and waits while the socket is full. If the router has ended, packets are dropped:
//! the main thread learns of that from the same socket, and ends the executor.

use crate::roots;
use crate::sys::Errno;
use crate::sys::packet::{self, BlockingMode};
use provium_protocol::frame::{HEADER_LEN, MAX_PAYLOAD};
use provium_protocol::{CallId, Frame, FrameKind, Lane};

/// Frames that are sent at once.
#[derive(Debug, Default)]
pub(super) struct Packet(Vec<u8>);

impl Packet {
    /// Adds a frame with `payload` in place of its own. What was added before is sent, if it is too much for
    /// one packet.
    pub(super) fn add(&mut self, frame: &Frame, payload: &[u8]) {
        if self.0.len() + HEADER_LEN + payload.len() > HEADER_LEN + MAX_PAYLOAD {
            std::mem::take(self).send();
        }
        self.0.extend_from_slice(&frame.header(payload.len()));
        self.0.extend_from_slice(payload);
    }

    /// Adds a message of any length. All but its last frame is sent.
    pub(super) fn add_message(
        &mut self,
        kind: FrameKind,
        lane: Lane,
        call: CallId,
        message: &[u8],
    ) {
        let mut frame = Frame::new(kind, lane, call, Vec::new());
        let mut rest = message;
        loop {
            let (now, later) = rest.split_at(rest.len().min(MAX_PAYLOAD));
            frame.more = !later.is_empty();
            self.add(&frame, now);
            if later.is_empty() {
                return;
            }
            rest = later;
        }
    }

    pub(super) fn send(self) {
        if !self.0.is_empty() {
            send_parts([&self.0, &[]]);
        }
    }
}

/// Sends one frame, with `payload` in place of its own.
pub(super) fn send(frame: &Frame, payload: &[u8]) {
    send_parts([&frame.header(payload.len()), payload]);
}

/// Sends a message of any length.
pub(super) fn send_message(kind: FrameKind, lane: Lane, call: CallId, message: &[u8]) {
    let mut packet = Packet::default();
    packet.add_message(kind, lane, call, message);
    packet.send();
}

fn send_parts(parts: [&[u8]; 2]) {
    while let Err(Errno::INTR) = packet::send(roots::SOCKET, parts, BlockingMode::Blocks) {}
}
