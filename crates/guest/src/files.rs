//! Files of the guest, by path and by descriptor.

use crate::call::Call;
use crate::error::CallError;
use crate::lane::LaneHandle;
use crate::stream::GuestStream;
use provium_protocol::op::{ReadFd, WriteFile};
use provium_protocol::{Descriptor, Op, Reply, Request};
use serde_bytes::ByteBuf;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

/// Longest content that is read into memory at once, bytes. A guest's file may have no end.
pub const MAX_FILE_IN_MEMORY: u64 = 1024 * 1024 * 1024;
/// Content up to this length goes with the request.
const SHORT_CONTENT: usize = 32 * 1024;

impl LaneHandle {
    /// Reads a whole file, of at most [`MAX_FILE_IN_MEMORY`] bytes.
    ///
    /// # Errors
    /// What the guest answers, and the end of the session.
    pub async fn read_file(&self, path: &[u8]) -> Result<Vec<u8>, CallError> {
        collect(self.read_file_stream(path)).await
    }

    /// A file's content as it comes.
    pub fn read_file_stream(&self, path: &[u8]) -> GuestStream {
        let op = Op::ReadFile {
            path: path.to_vec(),
            inline: false,
        };
        GuestStream::new(self.channel().open(self.lane(), &op))
    }

    /// Copies a file's content to `sink`; returns the number of bytes.
    ///
    /// # Errors
    /// As [`LaneHandle::read_file`], and [`CallError::Local`] when the sink fails.
    pub async fn read_file_to(
        &self,
        path: &[u8],
        sink: &mut (impl AsyncWrite + Unpin),
    ) -> Result<u64, CallError> {
        let local = |error| CallError::Local(Arc::new(error));
        let mut stream = self.read_file_stream(path);
        while let Some(bytes) = stream.next().await? {
            sink.write_all(&bytes).await.map_err(local)?;
        }
        sink.flush().await.map_err(local)?;
        Ok(stream.received())
    }

    /// Creates or replaces a file, or appends to it; returns the number of bytes. `perm` as in
    /// [`Op::WriteFile`].
    ///
    /// # Errors
    /// What the guest answers, and the end of the session.
    pub async fn write_file(
        &self,
        path: &[u8],
        content: &[u8],
        perm: Option<u32>,
        append: bool,
    ) -> Result<u64, CallError> {
        let request = WriteFile {
            path: path.to_vec(),
            perm,
            append,
            content: (content.len() <= SHORT_CONTENT).then(|| ByteBuf::from(content)),
        };
        if request.content.is_some() {
            return self.call(request).await;
        }
        let call = self.channel().open(self.lane(), &request.into());
        feed(WriteFile::NAME, call, content).await
    }

    /// As [`LaneHandle::write_file`], with content from `source`, up to its end.
    ///
    /// # Errors
    /// As there, and [`CallError::Local`] when the source fails: the file is incomplete then.
    pub async fn write_file_from(
        &self,
        path: &[u8],
        source: &mut (impl AsyncRead + Unpin),
        perm: Option<u32>,
        append: bool,
    ) -> Result<u64, CallError> {
        let op = Op::WriteFile {
            path: path.to_vec(),
            perm,
            append,
            content: None,
        };
        let mut call = self.channel().open(self.lane(), &op);
        let input = call.input();
        let written = match input.copy_from(source).await {
            Ok(written) => Some(written),
            // The guest ended it early: its reply says why.
            Err(CallError::InputClosed) => None,
            Err(error) => return Err(error),
        };
        input.finish();
        moved(WriteFile::NAME, &mut call, written).await
    }

    /// Up to `max` bytes in one `read(2)`, at most 1 MiB; empty at the end.
    ///
    /// # Errors
    /// As of [`LaneHandle::call`].
    pub async fn read_fd(&self, fd: impl Into<Descriptor>, max: u32) -> Result<Vec<u8>, CallError> {
        let bytes = self.call(ReadFd { fd: fd.into(), max }).await?;
        if bytes.len() > max as usize {
            return Err(CallError::Unexpected(ReadFd::NAME));
        }
        Ok(bytes)
    }

    /// Reads a descriptor to its end: at most [`MAX_FILE_IN_MEMORY`] bytes.
    ///
    /// # Errors
    /// As of [`LaneHandle::call`].
    pub async fn read_fd_to_end(&self, fd: impl Into<Descriptor>) -> Result<Vec<u8>, CallError> {
        let (fd, notices) = (fd.into(), false);
        let op = Op::StreamFd { fd, notices };
        collect(GuestStream::new(self.channel().open(self.lane(), &op))).await
    }

    /// Writes all of `content` to a descriptor; returns the number of bytes.
    ///
    /// # Errors
    /// As of [`LaneHandle::call`].
    pub async fn write_fd(
        &self,
        fd: impl Into<Descriptor>,
        content: &[u8],
    ) -> Result<u64, CallError> {
        let op = Op::WriteFd { fd: fd.into() };
        feed("WriteFd", self.channel().open(self.lane(), &op), content).await
    }
}

async fn feed(name: &'static str, mut call: Call, content: &[u8]) -> Result<u64, CallError> {
    let input = call.input();
    let written = match input.write_all(content).await {
        Ok(()) => Some(content.len() as u64),
        Err(CallError::InputClosed) => None,
        Err(error) => return Err(error),
    };
    input.finish();
    moved(name, &mut call, written).await
}

/// The reply to a call that took input: the number of bytes that the guest has moved.
async fn moved(
    name: &'static str,
    call: &mut Call,
    written: Option<u64>,
) -> Result<u64, CallError> {
    match call.reply().await? {
        Reply::Count(got) => match written {
            Some(said) if said != got => Err(CallError::Incomplete { said, got }),
            _ => Ok(got),
        },
        _ => Err(CallError::Unexpected(name)),
    }
}

async fn collect(mut stream: GuestStream) -> Result<Vec<u8>, CallError> {
    let mut content = Vec::new();
    while let Some(bytes) = stream.next().await? {
        content.extend_from_slice(&bytes);
        if stream.received() > MAX_FILE_IN_MEMORY {
            return Err(CallError::TooMuch {
                limit: MAX_FILE_IN_MEMORY,
            });
        }
    }
    Ok(content)
}
