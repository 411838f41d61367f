//! One call: its input, its outputs, its events, its reply.

use crate::call_state::CallState;
use crate::error::CallError;
use crate::shared::Shared;
use provium_protocol::{CallId, Event, Lane, Reply, StreamId};
use std::any::Any;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt};

/// A call under way. Dropping it cancels it in the guest, and undoes what it has made (a worker, a
/// descriptor) if it was done before the cancel arrived.
#[derive(Debug)]
pub struct Call {
    shared: Arc<Shared>,
    /// Keeps the channel open.
    _alive: Arc<dyn Any + Send + Sync>,
    state: Arc<CallState>,
    next_event: usize,
}

impl Call {
    /// The handle of a call; `alive` is what the channel exists by.
    pub(crate) fn new(
        shared: Arc<Shared>,
        alive: Arc<dyn Any + Send + Sync>,
        state: Arc<CallState>,
    ) -> Self {
        Self {
            shared,
            _alive: alive,
            state,
            next_event: 0,
        }
    }

    /// Its id, by which other operations name it.
    pub fn id(&self) -> CallId {
        self.state.id
    }

    /// The lane it was sent to.
    pub fn lane(&self) -> Lane {
        self.state.lane
    }

    /// Whether the reply has come, or the session has ended.
    pub fn is_over(&self) -> bool {
        self.state.is_over()
    }

    /// The write side of the input stream. All handles of a call write to the same stream.
    pub fn input(&self) -> Input {
        Input {
            shared: Arc::clone(&self.shared),
            state: Arc::clone(&self.state),
        }
    }

    /// The bytes of an output stream. If they are not read and the handle is not dropped, the call waits
    /// for credit when a window is full; other calls do not. Two handles of one stream share its
    /// bytes. Dropping one discards what comes afterwards.
    pub fn output(&self, stream: StreamId) -> Output {
        self.state.claim(stream);
        Output {
            shared: Arc::clone(&self.shared),
            state: Arc::clone(&self.state),
            stream,
        }
    }

    /// The next event; `None` when the call is over and all were given.
    pub async fn event(&mut self) -> Option<Event> {
        let event = self.state.nth_event(self.next_event).await?;
        self.next_event += 1;
        Some(event)
    }

    /// The outcome of the call; it is returned once. Output without a handle is discarded, so that the
    /// call can end. Dropping the future loses nothing.
    ///
    /// # Errors
    /// What the guest answers, and the end of the session.
    pub async fn reply(&mut self) -> Result<Reply, CallError> {
        let grants = self.state.discard(false);
        for (stream, bytes) in [StreamId::Output, StreamId::Error].into_iter().zip(grants) {
            self.shared.grant(&self.state, stream, bytes);
        }
        self.state.take_outcome().await
    }

    /// Requests the guest to end it. Its reply still comes, when it has ended.
    pub fn cancel(&self) {
        self.shared.with(|channel| channel.cancel(&self.state));
    }

    pub(crate) fn state(&self) -> &CallState {
        &self.state
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.shared.with(|channel| channel.abandon(&self.state));
    }
}

/// The write side of a call's input stream. Dropping it does not end the input:
/// [`Input::finish`] does.
#[derive(Debug)]
pub struct Input {
    shared: Arc<Shared>,
    state: Arc<CallState>,
}

impl Input {
    /// Writes all of `bytes`, as fast as the guest grants credit. Returns when they are queued.
    /// Dropping the future leaves an unknown part of them written.
    ///
    /// # Errors
    /// [`CallError::InputClosed`] when the call has ended or the input was finished.
    pub async fn write_all(&self, bytes: &[u8]) -> Result<(), CallError> {
        let _turn = self.state.input_turn.lock().await;
        let mut rest = bytes;
        while !rest.is_empty() {
            match self
                .shared
                .with(|channel| channel.offer_input(&self.state, rest))?
            {
                0 => self.state.input_ready.notified().await,
                taken => rest = &rest[taken..],
            }
        }
        Ok(())
    }

    /// Writes `source` to its end; returns the number of bytes.
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
        self.shared
            .with(|channel| channel.finish_input(&self.state));
    }
}

/// The bytes of one of a call's output streams.
#[derive(Debug)]
pub struct Output {
    shared: Arc<Shared>,
    state: Arc<CallState>,
    stream: StreamId,
}

impl Output {
    /// The next bytes, at least one; `None` at the end, which comes after the last byte and no later
    /// than the reply. Dropping the future loses nothing.
    ///
    /// # Errors
    /// When the session ended, after all bytes that had come were returned. An error of the guest's is in
    /// the reply alone.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, CallError> {
        let Some((piece, grant)) = self.state.next_piece(self.stream).await? else {
            return Ok(None);
        };
        self.shared.grant(&self.state, self.stream, grant);
        Ok(Some(piece))
    }
}

impl Output {
    pub(crate) fn state(&self) -> &CallState {
        &self.state
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let grant = self.state.discard_one(self.stream);
        self.shared.grant(&self.state, self.stream, grant);
    }
}
