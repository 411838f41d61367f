//! The standard streams of this process. Each is read or written by a thread of its own, since that may block
//! for any time, and a thread that still waits at the end does not keep the process.

use crate::failure::Failure;
use std::io::{self, ErrorKind, Read as _, Write};
use tokio::sync::{mpsc, oneshot};

/// Pieces that may wait for the other side.
const WAITING: usize = 4;

/// Bytes that are read at once.
const PIECE: usize = 32 * 1024;

/// Standard input, piece by piece, until its end.
pub(super) fn read_stdin() -> Result<mpsc::Receiver<Vec<u8>>, Failure> {
    let (sender, pieces) = mpsc::channel(WAITING);
    spawn("stdin", move || {
        let mut buffer = vec![0; PIECE];
        loop {
            let read = match io::stdin().lock().read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // An input that cannot be read, as one that is closed, has no more to say.
                read => read.unwrap_or(0),
            };
            if read == 0 || sender.blocking_send(buffer[..read].to_vec()).is_err() {
                return;
            }
        }
    })?;
    Ok(pieces)
}

/// Writes to one of the output streams.
pub(super) struct Writer {
    pieces: mpsc::Sender<Vec<u8>>,
    done: oneshot::Receiver<io::Result<()>>,
}

impl Writer {
    /// Writes to standard output.
    pub(super) fn stdout() -> Result<Self, Failure> {
        Self::start("stdout", io::stdout)
    }

    /// Writes to standard error.
    pub(super) fn stderr() -> Result<Self, Failure> {
        Self::start("stderr", io::stderr)
    }

    fn start<W: Write>(
        name: &'static str,
        stream: impl FnOnce() -> W + Send + 'static,
    ) -> Result<Self, Failure> {
        let (pieces, mut waiting) = mpsc::channel::<Vec<u8>>(WAITING);
        let (ended, done) = oneshot::channel();
        spawn(name, move || {
            let mut stream = stream();
            let mut written = Ok(());
            while let Some(piece) = waiting.blocking_recv() {
                written = stream.write_all(&piece).and_then(|()| stream.flush());
                if written.is_err() {
                    break;
                }
            }
            // Before the report, so that a writer of pieces notices the end.
            drop(waiting);
            // The receiver is gone if the session was left.
            let _ = ended.send(written);
        })?;
        Ok(Self { pieces, done })
    }

    /// Writes a piece; false if the stream takes no more.
    pub(super) async fn write(&self, piece: Vec<u8>) -> bool {
        self.pieces.send(piece).await.is_ok()
    }

    /// Waits until everything is written; false if the reader has gone away before.
    pub(super) async fn finish(self) -> io::Result<bool> {
        drop(self.pieces);
        match self.done.await {
            Ok(Err(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
            Ok(written) => written.map(|()| true),
            // Its thread has panicked, which was printed.
            Err(_) => Ok(false),
        }
    }
}

fn spawn(name: &'static str, work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    let spawned = thread.spawn(work);
    spawned.map(drop).map_err(|source| Failure::Host {
        what: "a thread",
        source,
    })
}
