//! Writes the frames of the [outbox](crate::outbox), in batches.

use crate::error::ChannelError;
use crate::shared::Shared;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Bytes taken at once. What is taken can no longer be overtaken, so it bounds how long a small
/// request waits behind large ones.
const BATCH: usize = 64 * 1024;

/// Writes until the channel ends.
pub(crate) async fn run<W: AsyncWrite + Unpin>(shared: Arc<Shared>, mut stream: W) {
    let mut batch = Vec::with_capacity(2 * BATCH);
    loop {
        batch.clear();
        shared.fill(&mut batch, BATCH);
        if batch.is_empty() {
            if shared.is_dead() {
                return;
            }
            shared.outgoing.notified().await;
            continue;
        }
        if let Err(error) = stream.write_all(&batch).await {
            // A peer that has gone may have left bytes to read: the reader comes to the end itself.
            let gone = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
            if !gone.contains(&error.kind()) {
                shared.die(ChannelError::Io(Arc::new(error)));
            }
            return;
        }
    }
}
