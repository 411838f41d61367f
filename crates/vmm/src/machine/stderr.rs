//! The end of what a QEMU writes to standard error.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How many bytes are kept.
const KEPT: usize = 4096;

/// How long the stream of a dead process may take to end, before it is given up: a descendant that escaped
/// may hold it open.
const DRAIN: Duration = Duration::from_secs(1);

/// Follows the stream in a task.
pub(super) struct StderrTail {
    kept: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl StderrTail {
    pub(super) fn follow(stream: Option<pipe::Receiver>) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&kept);
        let reader = tokio::spawn(async move {
            let Some(mut stream) = stream else { return };
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                let mut kept = lock(&keep);
                kept.extend_from_slice(&buffer[..count]);
                let excess = kept.len().saturating_sub(KEPT);
                kept.drain(..excess);
            }
        });
        Self { kept, reader }
    }

    /// What has been written so far, without surrounding blanks.
    pub(super) fn so_far(&self) -> String {
        String::from_utf8_lossy(&lock(&self.kept)).trim().to_owned()
    }

    /// All of it, once the process has ended.
    pub(super) async fn finish(mut self) -> String {
        if timeout(DRAIN, &mut self.reader).await.is_err() {
            self.reader.abort();
        }
        self.so_far()
    }
}

fn lock(kept: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
