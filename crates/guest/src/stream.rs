//! Streams of bytes from a guest: a file that is followed, the content of a descriptor.

use crate::call::{Call, Output};
use crate::error::CallError;
use crate::lane::LaneHandle;
use provium_protocol::op::{NoticeKind, StreamNotice, TailStart};
use provium_protocol::{Descriptor, Op, Reply, StreamId};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most changes of a file that are kept.
const CHANGES_KEPT: usize = 1000;

/// The output of one call, with its outcome at the end. Dropping it ends the call in the guest.
#[derive(Debug)]
pub struct GuestStream {
    call: Call,
    output: Output,
    /// What the guest reports beside the bytes; `None`: nothing, or no more.
    notices: Option<Notices>,
    changes: FileChanges,
    received: u64,
    ended: bool,
}

#[derive(Debug)]
struct Notices {
    output: Output,
    /// The bytes of a notice that has not come completely.
    partial: Vec<u8>,
}

/// What has happened to the file of a stream, beside that it grew, as far as the stream has been read. Cloning
/// gives another handle on the same.
#[derive(Debug, Clone, Default)]
pub struct FileChanges(Arc<Mutex<ChangeList>>);

/// The changes of a file at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangeList {
    /// The last of them, oldest first, at most 1000.
    pub last: VecDeque<StreamNotice>,
    /// How many there were.
    pub total: u64,
}

impl GuestStream {
    /// The stream of a call that sends no notices.
    pub(crate) fn new(call: Call) -> Self {
        let output = call.output(StreamId::Output);
        Self {
            call,
            output,
            notices: None,
            changes: FileChanges::default(),
            received: 0,
            ended: false,
        }
    }

    /// The stream of a call that sends notices, once the guest has opened what it reads and knows where it
    /// begins.
    async fn open(call: Call) -> Result<Self, CallError> {
        let output = call.output(StreamId::Error);
        let mut stream = Self::new(call);
        let notices = stream.notices.insert(Notices {
            output,
            partial: Vec::new(),
        });
        while let Some(received) = notices.receive().await? {
            // The first notice is the one that reports this.
            if !received.is_empty() {
                stream.changes.add(&received);
                return Ok(stream);
            }
        }
        stream.call.reply().await?;
        Err(CallError::Unexpected("stream"))
    }

    /// The next bytes, at least one; `None` at the end. Dropping the future loses nothing. What is
    /// not read waits in the guest, beyond a window.
    ///
    /// # Errors
    /// What the guest answers, after the bytes that came before; and the end of the session.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, CallError> {
        if self.ended {
            return Ok(None);
        }
        if let Some(bytes) = self.next_piece().await? {
            self.received += bytes.len() as u64;
            return Ok(Some(bytes));
        }
        let reply = self.call.reply().await;
        self.ended = true;
        match reply? {
            Reply::Count(said) if said != self.received => Err(CallError::Incomplete {
                said,
                got: self.received,
            }),
            Reply::Count(_) | Reply::Done => Ok(None),
            _ => Err(CallError::Unexpected("stream")),
        }
    }

    async fn next_piece(&mut self) -> Result<Option<Vec<u8>>, CallError> {
        while let Some(notices) = &mut self.notices {
            // Notices first: what they report happened before the bytes that were sent after them.
            let received = tokio::select! {
                biased;
                received = notices.receive() => received,
                piece = self.output.next() => return piece,
            };
            match received {
                Ok(Some(received)) => self.changes.add(&received),
                Err(error @ CallError::Unexpected(_)) => return Err(error),
                // Why the session has ended, the output says after its last bytes.
                Ok(None) | Err(_) => self.notices = None,
            }
        }
        self.output.next().await
    }

    /// Bytes given so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// What has happened to the file.
    pub fn changes(&self) -> FileChanges {
        self.changes.clone()
    }
}

impl Notices {
    /// Takes what comes next, which may be a part of a notice; `None` at the end. Dropping the future loses
    /// nothing.
    async fn receive(&mut self) -> Result<Option<Vec<StreamNotice>>, CallError> {
        let Some(bytes) = self.output.next().await? else {
            return Ok(None);
        };
        self.partial.extend_from_slice(&bytes);
        let (whole, rest) = self.partial.as_chunks();
        let decoded = whole.iter().map(|bytes| StreamNotice::decode(*bytes));
        let notices = decoded.collect::<Option<Vec<_>>>();
        self.partial = rest.to_vec();
        notices.map_or(Err(CallError::Unexpected("stream")), |list| Ok(Some(list)))
    }
}

impl FileChanges {
    /// Those so far.
    pub fn list(&self) -> ChangeList {
        self.lock().clone()
    }

    fn add(&self, notices: &[StreamNotice]) {
        let mut changes = self.lock();
        for notice in notices {
            if notice.kind == NoticeKind::Opened {
                continue;
            }
            if changes.last.len() == CHANGES_KEPT {
                changes.last.pop_front();
            }
            changes.last.push_back(*notice);
            changes.total += 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, ChangeList> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LaneHandle {
    /// Follows a file. Returns once the guest has opened it.
    ///
    /// # Errors
    /// Why it cannot be read, and the end of the session.
    pub async fn tail_file(&self, path: &[u8], start: TailStart) -> Result<GuestStream, CallError> {
        let op = Op::TailFile {
            path: path.to_vec(),
            start,
        };
        GuestStream::open(self.channel().open(self.lane(), &op)).await
    }

    /// Reads a descriptor to its end. Returns once the guest knows that it can be read.
    ///
    /// # Errors
    /// Why it cannot be read, and the end of the session.
    pub async fn stream_fd(&self, fd: impl Into<Descriptor>) -> Result<GuestStream, CallError> {
        let (fd, notices) = (fd.into(), true);
        let op = Op::StreamFd { fd, notices };
        GuestStream::open(self.channel().open(self.lane(), &op)).await
    }

    /// Follows an open file from its offset, which stays where it is; a pipe to its end. Returns once the
    /// guest knows where it begins.
    ///
    /// # Errors
    /// Why it cannot be read, and the end of the session.
    pub async fn tail_fd(&self, fd: impl Into<Descriptor>) -> Result<GuestStream, CallError> {
        let op = Op::TailFd { fd: fd.into() };
        GuestStream::open(self.channel().open(self.lane(), &op)).await
    }
}
