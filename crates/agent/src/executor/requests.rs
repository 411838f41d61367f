//! Requests of the host, put together from their frames.

use super::table::Table;
use crate::failure;
use crate::sys::Errno;
use provium_protocol::frame::Assembler;
use provium_protocol::{CallId, Frame, Lane, Op, WireError, codec};

/// How the request for a command begins.
const COMMAND: &[u8] = b"\x81\xa4Exec";
/// Arguments, environment and short input of a command.
const COMMAND_LIMIT: usize = 8 * 1024 * 1024;

/// Requests of which not every frame has arrived.
#[derive(Default)]
pub(super) struct Requests(Table<(Lane, CallId), PartialRequest>);

#[derive(Default)]
struct PartialRequest {
    parts: Assembler,
    size: usize,
    limit: Option<usize>,
    /// It was refused; the rest of it is dropped.
    refused: bool,
}

/// What a frame completes.
#[derive(Debug)]
pub(super) enum CompletedRequest {
    Op(Op),
    /// The request cannot be read.
    Unreadable(WireError),
    /// The request is too long. What follows of it is dropped.
    TooLong(WireError),
}

impl Requests {
    /// Adds a frame; `None` while the request is incomplete, or after it was refused.
    pub(super) fn push(&mut self, frame: &Frame) -> Option<CompletedRequest> {
        let key = (frame.lane, frame.call);
        let request = self.0.get_or_default(key);
        let completed = request.push(frame);
        if !frame.more || matches!(completed, Some(CompletedRequest::Unreadable(_))) {
            self.0.remove(&key);
        }
        completed
    }

    /// Forgets a request that was cancelled.
    pub(super) fn cancel(&mut self, lane: Lane, call: CallId) {
        self.0.remove(&(lane, call));
    }

    /// Forgets the requests to a lane.
    pub(super) fn forget_lane(&mut self, lane: Lane) {
        self.0.retain(|(of, _)| *of != lane);
    }
}

impl PartialRequest {
    fn push(&mut self, frame: &Frame) -> Option<CompletedRequest> {
        if self.refused {
            return None;
        }
        self.size += frame.payload.len();
        // The kernel refuses what is longer; here it would only take memory meanwhile.
        if frame.payload.starts_with(COMMAND) {
            self.limit = Some(COMMAND_LIMIT);
        }
        if self.limit.is_some_and(|limit| self.size > limit) {
            *self = Self {
                refused: true,
                ..Self::default()
            };
            let error = failure::os("exec", Errno(libc::E2BIG));
            return Some(CompletedRequest::TooLong(error));
        }
        let unreadable = |why| Some(CompletedRequest::Unreadable(failure::invalid(why)));
        match self.parts.push(frame) {
            Ok(None) => None,
            Ok(Some(message)) => match codec::decode::<Op>(&message) {
                Ok(op) => Some(CompletedRequest::Op(op)),
                Err(_) => unreadable("the request cannot be read"),
            },
            Err(_) => unreadable("the request is too long"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use provium_protocol::FrameKind;

    fn frame(payload: &[u8], more: bool) -> Frame {
        let mut frame = Frame::new(FrameKind::Request, Lane::VM, CallId(1), payload.to_vec());
        frame.more = more;
        frame
    }

    #[test]
    fn a_request_is_complete_with_its_last_frame() {
        let mut requests = Requests::default();
        let message = codec::encode(&Op::Join);
        let (first, last) = message.split_at(2);
        assert!(requests.push(&frame(first, true)).is_none());
        let completed = requests.push(&frame(last, false));
        assert!(matches!(completed, Some(CompletedRequest::Op(Op::Join))));
    }

    #[test]
    fn a_command_that_is_too_long_is_refused_once() {
        let mut requests = Requests::default();
        assert!(requests.push(&frame(COMMAND, true)).is_none());
        let rest = vec![0; COMMAND_LIMIT];
        let completed = requests.push(&frame(&rest, true));
        assert!(matches!(completed, Some(CompletedRequest::TooLong(_))));
        assert!(requests.push(&frame(&rest, true)).is_none());
        assert!(requests.push(&frame(&rest, false)).is_none());
        assert!(requests.0.is_empty());
    }
}
