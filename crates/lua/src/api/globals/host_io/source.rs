//! Sources of bytes that arrive over time.

use provium_lab::watch_host_file;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use tokio::io::AsyncReadExt as _;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;

/// Bytes that are requested in one read.
const PIECE: usize = 64 << 10;

/// Where bytes come from.
pub(super) enum Source {
    Pipe(pipe::Receiver),
    /// A terminal, or standard input. It is read once it is ready, so it need not be non-blocking;
    /// standard input belongs to others as well.
    KernelLogCheck(AsyncFd<OwnedFd>, File),
    /// A file that cannot be polled, and never blocks: a regular file as standard input.
    Plain(File),
}

/// A source, and the bytes that were received from it.
pub(super) struct Reader {
    source: Source,
    /// Bytes that were received and not read yet.
    held: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Source {
    /// A file that may block a reader.
    pub(super) fn of(file: File) -> io::Result<Self> {
        let watched = watch_host_file(file.try_clone()?.into());
        Ok(match watched {
            Ok(watched) => Self::KernelLogCheck(watched, file),
            Err(_) => Self::Plain(file),
        })
    }

    async fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Pipe(pipe) => pipe.read(piece).await,
            Self::Plain(file) => file.read(piece),
            Self::KernelLogCheck(watched, file) => loop {
                let mut ready = watched.readable().await?;
                match ready.try_io(|_| file.read(piece)) {
                    Ok(read) => return read,
                    Err(_would_block) => {}
                }
            },
        }
    }
}

impl Reader {
    pub(super) fn new(source: Source, held: Vec<u8>) -> Self {
        Self {
            source,
            held,
            at: 0,
            ended: false,
        }
    }

    /// The bytes that are available.
    pub(super) fn held(&self) -> &[u8] {
        &self.held[self.at..]
    }

    /// Takes the first `count` of them.
    pub(super) fn take(&mut self, count: usize) -> Vec<u8> {
        let taken = self.held()[..count].to_vec();
        self.at += count;
        if self.at == self.held.len() {
            self.held.clear();
            self.at = 0;
        }
        taken
    }

    /// Waits for more bytes; returns whether there are more. A cancelled wait loses none of them.
    pub(super) async fn more(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        if self.at > PIECE {
            self.held.drain(..self.at);
            self.at = 0;
        }
        let mut piece = vec![0; PIECE];
        let count = self.source.read(&mut piece).await?;
        self.held.extend_from_slice(&piece[..count]);
        self.ended = count == 0;
        Ok(count > 0)
    }
}
