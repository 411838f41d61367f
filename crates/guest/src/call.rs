//! One call: its input, its outputs, its events, its reply.

use crate::cell::Cell;
use crate::channel::Channel;
use crate::error::CallError;
use crate::shared::Shared;
use provium_protocol::{CallId, Channel as Stream, Event, Lane, Reply};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt};

/// A call under way. Dropping it cancels it in the guest, and takes back what it gives (a worker, a
/// descriptor) if it was done before the cancel arrived.
#[derive(Debug)]
pub struct Call {
    channel: Channel,
    cell: Arc<Cell>,
    next_event: usize,
}

impl Call {
    pub(crate) fn new(channel: Channel, cell: Arc<Cell>) -> Self {
        Self {
            channel,
            cell,
            next_event: 0,
        }
    }

    /// Its id, by which other ops name it.
    pub fn id(&self) -> CallId {
        self.cell.id
    }

    /// The lane it was sent to.
    pub fn lane(&self) -> Lane {
        self.cell.lane
    }

    /// Whether the reply has come, or the session has ended.
    pub fn is_over(&self) -> bool {
        self.cell.is_over()
    }

    /// The write side of the input channel. All handles of a call are the same channel.
    pub fn input(&self) -> Input {
        Input {
            shared: Arc::clone(self.channel.shared()),
            cell: Arc::clone(&self.cell),
        }
    }

    /// The bytes of an output channel. What nobody reads, and nobody has dropped, holds this call
    /// back when a window of it is full, and no other call. Two handles of one channel share its
    /// bytes; dropping one lets go of what comes from then on.
    pub fn output(&self, stream: Stream) -> Output {
        self.cell.claim(stream);
        Output {
            shared: Arc::clone(self.channel.shared()),
            cell: Arc::clone(&self.cell),
            stream,
        }
    }

    /// The next event; `None` when the call is over and all were given.
    pub async fn event(&mut self) -> Option<Event> {
        let event = self.cell.nth_event(self.next_event).await?;
        self.next_event += 1;
        Some(event)
    }

    /// What the call came to; it is handed out once. Output that nobody has asked for is let go, so
    /// that the call can end. Dropping the future loses nothing.
    ///
    /// # Errors
    /// What the guest answers, and the end of the session.
    pub async fn reply(&mut self) -> Result<Reply, CallError> {
        let grants = self.cell.discard(false);
        for (stream, bytes) in [Stream::Output, Stream::Error].into_iter().zip(grants) {
            self.channel.shared().grant(&self.cell, stream, bytes);
        }
        self.cell.take_outcome().await
    }

    /// Asks the guest to end it. Its reply comes all the same, and says when it has ended.
    pub fn cancel(&self) {
        self.channel.shared().cancel(&self.cell);
    }

    pub(crate) fn cell(&self) -> &Cell {
        &self.cell
    }

    pub(crate) fn channel(&self) -> &Channel {
        &self.channel
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.channel.shared().abandon(&self.cell);
    }
}

/// The write side of a call's input channel. Dropping it does not end the input:
/// [`Input::finish`] does.
#[derive(Debug)]
pub struct Input {
    shared: Arc<Shared>,
    cell: Arc<Cell>,
}

impl Input {
    /// Writes all of `bytes`, as fast as the guest takes them. Returns when they are on their way.
    /// Dropping the future leaves an unknown part of them written.
    ///
    /// # Errors
    /// [`CallError::InputClosed`] when the call has ended or the input was finished.
    pub async fn write_all(&self, bytes: &[u8]) -> Result<(), CallError> {
        let _turn = self.cell.input_turn.lock().await;
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.shared.offer_input(&self.cell, rest)? {
                0 => self.cell.input_ready.notified().await,
                taken => rest = &rest[taken..],
            }
        }
        Ok(())
    }

    /// Writes all that `source` gives, up to its end; gives the number of bytes.
    ///
    /// # Errors
    /// As [`Input::write_all`], and [`CallError::Local`] when the source fails.
    pub async fn copy_from(&self, source: &mut (impl AsyncRead + Unpin)) -> Result<u64, CallError> {
        let mut buffer = vec![0; crate::outbox::CHUNK];
        let mut total = 0;
        loop {
            let read = source
                .read(&mut buffer)
                .await
                .map_err(|error| CallError::Local(Arc::new(error)))?;
            if read == 0 {
                return Ok(total);
            }
            self.write_all(&buffer[..read]).await?;
            total += read as u64;
        }
    }

    /// Ends the input, after what was written. Ended already is fine.
    pub fn finish(&self) {
        self.shared.finish_input(&self.cell);
    }
}

/// The bytes of one of a call's output channels.
#[derive(Debug)]
pub struct Output {
    shared: Arc<Shared>,
    cell: Arc<Cell>,
    stream: Stream,
}

impl Output {
    /// The next bytes, at least one; `None` at the end, which comes after the last byte and no later
    /// than the reply. Dropping the future loses nothing.
    ///
    /// # Errors
    /// When the session ended, after all that had come was given. What the guest answered is told by
    /// the reply alone.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, CallError> {
        let Some((piece, grant)) = self.cell.next_piece(self.stream).await? else {
            return Ok(None);
        };
        self.shared.grant(&self.cell, self.stream, grant);
        Ok(Some(piece))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let grant = self.cell.discard_one(self.stream);
        self.shared.grant(&self.cell, self.stream, grant);
    }
}
