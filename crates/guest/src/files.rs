//! Files of the guest, by path and by descriptor.

use crate::call::Call;
use crate::error::CallError;
use crate::lane::LaneHandle;
use crate::stream::GuestStream;
use provium_protocol::message::{Entry, Stat};
use provium_protocol::op::Whence;
use provium_protocol::{Descriptor, Op, Reply};
use serde_bytes::ByteBuf;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

/// Longest content that is read into memory at once, bytes. A guest's file may have no end.
pub const MAX_FILE_IN_MEMORY: u64 = 1024 * 1024 * 1024;
/// Content up to this length goes with the request.
const SHORT_CONTENT: usize = 32 * 1024;

impl LaneHandle {
    /// A file's content, whole; at most [`MAX_FILE_IN_MEMORY`] bytes.
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

    /// Copies a file's content to `sink`; gives the number of bytes.
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

    /// Creates or replaces a file, or adds to it; gives the number of bytes. `perm` as in
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
        let path = path.to_vec();
        if content.len() <= SHORT_CONTENT {
            let content = Some(ByteBuf::from(content));
            return self
                .count(
                    "write file",
                    &Op::WriteFile {
                        path,
                        perm,
                        append,
                        content,
                    },
                )
                .await;
        }
        let op = Op::WriteFile {
            path,
            perm,
            append,
            content: None,
        };
        self.feed("write file", self.channel().open(self.lane(), &op), content)
            .await
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
        moved("write file", &mut call, written).await
    }

    /// A file's metadata; links are followed.
    ///
    /// # Errors
    /// As [`LaneHandle::request`].
    pub async fn stat(&self, path: &[u8]) -> Result<Stat, CallError> {
        match self
            .request(&Op::Stat {
                path: path.to_vec(),
            })
            .await?
        {
            Reply::Stat(stat) => Ok(stat),
            _ => Err(CallError::Unexpected("stat")),
        }
    }

    /// A folder's entries, sorted by name.
    ///
    /// # Errors
    /// As [`LaneHandle::request`].
    pub async fn list_dir(&self, path: &[u8]) -> Result<Vec<Entry>, CallError> {
        match self
            .request(&Op::ListDir {
                path: path.to_vec(),
            })
            .await?
        {
            Reply::Entries(entries) => Ok(entries),
            _ => Err(CallError::Unexpected("list dir")),
        }
    }

    /// Makes a folder, with `parents` also those above it.
    ///
    /// # Errors
    /// As [`LaneHandle::request`].
    pub async fn make_dir(
        &self,
        path: &[u8],
        parents: bool,
        perm: Option<u32>,
    ) -> Result<(), CallError> {
        self.done(
            "make dir",
            &Op::MakeDir {
                path: path.to_vec(),
                parents,
                perm,
            },
        )
        .await
    }

    /// Removes a file, link or empty folder.
    ///
    /// # Errors
    /// As [`LaneHandle::request`].
    pub async fn unlink(&self, path: &[u8]) -> Result<(), CallError> {
        self.done(
            "unlink",
            &Op::Unlink {
                path: path.to_vec(),
            },
        )
        .await
    }

    /// Renames.
    ///
    /// # Errors
    /// As [`LaneHandle::request`].
    pub async fn rename(&self, from: &[u8], to: &[u8]) -> Result<(), CallError> {
        self.done(
            "rename",
            &Op::Rename {
                from: from.to_vec(),
                to: to.to_vec(),
            },
        )
        .await
    }

    /// Sets permission bits.
    ///
    /// # Errors
    /// As [`LaneHandle::request`].
    pub async fn chmod(&self, path: &[u8], perm: u32) -> Result<(), CallError> {
        self.done(
            "chmod",
            &Op::Chmod {
                path: path.to_vec(),
                perm,
            },
        )
        .await
    }

    /// Makes a symbolic link at `path` that says `target`.
    ///
    /// # Errors
    /// As [`LaneHandle::request`].
    pub async fn symlink(&self, target: &[u8], path: &[u8]) -> Result<(), CallError> {
        self.done(
            "symlink",
            &Op::Symlink {
                target: target.to_vec(),
                path: path.to_vec(),
            },
        )
        .await
    }

    /// What a symbolic link says.
    ///
    /// # Errors
    /// As [`LaneHandle::request`].
    pub async fn read_link(&self, path: &[u8]) -> Result<Vec<u8>, CallError> {
        self.bytes(
            "read link",
            &Op::ReadLink {
                path: path.to_vec(),
            },
        )
        .await
    }

    /// Opens a file with the flags of `open(2)`; gives its descriptor in the lane's process. One
    /// whose reply nobody waits for any more is closed.
    ///
    /// # Errors
    /// As [`LaneHandle::request`].
    pub async fn open_fd(
        &self,
        path: &[u8],
        flags: i32,
        perm: u32,
    ) -> Result<Descriptor, CallError> {
        match self
            .request(&Op::Open {
                path: path.to_vec(),
                flags,
                perm,
            })
            .await?
        {
            Reply::Opened(fd) => Ok(fd),
            _ => Err(CallError::Unexpected("open")),
        }
    }

    /// Up to `max` bytes in one `read(2)`, at most 1 MiB; empty at the end.
    ///
    /// # Errors
    /// As [`LaneHandle::request`].
    pub async fn read_fd(&self, fd: impl Into<Descriptor>, max: u32) -> Result<Vec<u8>, CallError> {
        let bytes = self
            .bytes("read", &Op::ReadFd { fd: fd.into(), max })
            .await?;
        if bytes.len() > max as usize {
            return Err(CallError::Unexpected("read"));
        }
        Ok(bytes)
    }

    /// All that a descriptor gives up to its end; at most [`MAX_FILE_IN_MEMORY`] bytes.
    ///
    /// # Errors
    /// As [`LaneHandle::request`].
    pub async fn read_fd_to_end(&self, fd: impl Into<Descriptor>) -> Result<Vec<u8>, CallError> {
        collect(self.stream_fd(fd)).await
    }

    /// Writes all of `content` to a descriptor; gives the number of bytes.
    ///
    /// # Errors
    /// As [`LaneHandle::request`].
    pub async fn write_fd(
        &self,
        fd: impl Into<Descriptor>,
        content: &[u8],
    ) -> Result<u64, CallError> {
        self.feed(
            "write",
            self.channel()
                .open(self.lane(), &Op::WriteFd { fd: fd.into() }),
            content,
        )
        .await
    }

    /// Moves a descriptor's offset; gives the new one.
    ///
    /// # Errors
    /// As [`LaneHandle::request`].
    pub async fn seek_fd(
        &self,
        fd: impl Into<Descriptor>,
        offset: i64,
        whence: Whence,
    ) -> Result<u64, CallError> {
        self.count(
            "seek",
            &Op::SeekFd {
                fd: fd.into(),
                offset,
                whence,
            },
        )
        .await
    }

    /// Whether the process that opened a descriptor is still there.
    ///
    /// # Errors
    /// As [`LaneHandle::request`].
    pub async fn check_fd(&self, fd: Descriptor) -> Result<(), CallError> {
        self.done("check", &Op::CheckFd { fd }).await
    }

    /// Closes a descriptor.
    ///
    /// # Errors
    /// As [`LaneHandle::request`].
    pub async fn close_fd(&self, fd: impl Into<Descriptor>) -> Result<(), CallError> {
        self.done("close", &Op::CloseFd { fd: fd.into() }).await
    }

    async fn feed(
        &self,
        name: &'static str,
        mut call: Call,
        content: &[u8],
    ) -> Result<u64, CallError> {
        let input = call.input();
        let written = match input.write_all(content).await {
            Ok(()) => Some(content.len() as u64),
            Err(CallError::InputClosed) => None,
            Err(error) => return Err(error),
        };
        input.finish();
        moved(name, &mut call, written).await
    }
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
