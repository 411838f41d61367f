//! Connections to servers in the guest, without a network between host and guest.
//!
//! ```text
//!   connect ──▶ open ──┬─ the server ends its side ──┬──▶ over, without an error
//!                      ├─ the host ends its side ────┘
//!                      ├─ reset by the server, channel lost ──▶ over, with an error
//!                      └─ close ──▶ over; what was sent before is still delivered
//! ```

use crate::call::{Call, Input, Output};
use crate::error::CallError;
use crate::lane::LaneHandle;
use crate::outbox::QUEUE_LIMIT;
use provium_protocol::op::Address;
use provium_protocol::{Event, Op, StreamId};

/// A connection. Dropping it closes it, and discards what the guest has not been sent.
#[derive(Debug)]
pub struct Connection {
    call: Call,
}

/// Reads what the server sends.
#[derive(Debug)]
pub struct ConnectionReader {
    output: Output,
}

impl LaneHandle {
    /// Connects to a server. Dropping the future ends the attempt.
    ///
    /// # Errors
    /// Why the server cannot be reached, and the end of the session.
    pub async fn connect(&self, address: Address) -> Result<Connection, CallError> {
        let op = Op::Connect { address };
        let mut call = self.channel().open(self.lane(), &op);
        while let Some(event) = call.event().await {
            if event == Event::Connected {
                return Ok(Connection { call });
            }
        }
        call.reply().await?;
        Err(CallError::Unexpected("Connect"))
    }
}

impl Connection {
    /// Reads what the server sends. Readers share its bytes; what comes after a reader was dropped is
    /// discarded.
    pub fn reader(&self) -> ConnectionReader {
        ConnectionReader {
            output: self.call.output(StreamId::Output),
        }
    }

    /// Sends to the server. [`Input::finish`] ends this direction; the server then reads an end of file.
    pub fn writer(&self) -> Input {
        self.call.input()
    }

    /// Whether both directions have ended, or the connection has failed.
    pub fn is_over(&self) -> bool {
        self.call.is_over()
    }

    /// Waits until both directions have ended and everything has been delivered, or the connection has failed.
    pub async fn ended(&self) {
        // There is never so late an event.
        self.call.state().nth_event(usize::MAX).await;
    }

    /// Why it failed, if it has.
    pub fn failure(&self) -> Option<CallError> {
        self.call.state().failure()
    }

    /// Waits until what was sent is on its way to the guest, which delivers it even if the connection is
    /// closed then.
    pub async fn flushed(&self) {
        while !self.is_over() && self.has_unsent_input() {
            self.call.state().input_ready.notified().await;
        }
    }

    fn has_unsent_input(&self) -> bool {
        let id = self.call.id();
        let room = self.call.shared().with(|channel| channel.outbox.room(id));
        room < QUEUE_LIMIT
    }

    /// Closes it. Closed already is fine.
    pub fn close(&self) {
        let call = self.call.state();
        self.call.shared().with(|channel| channel.abandon(call));
    }
}

impl ConnectionReader {
    /// The next bytes, at least one; `None` when the server has ended its side, or the connection was
    /// closed here. Dropping the future loses nothing.
    ///
    /// # Errors
    /// Why the connection failed, after the bytes that came before.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, CallError> {
        if let Some(bytes) = self.output.next().await? {
            return Ok(Some(bytes));
        }
        let state = self.output.state();
        if state.ended_in_order(StreamId::Output) || state.is_abandoned() {
            return Ok(None);
        }
        state.failure().map_or(Ok(None), Err)
    }
}
