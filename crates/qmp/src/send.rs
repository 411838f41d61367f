//! Writes lines to QEMU's socket, with the descriptors that they pass.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// A command as it is sent.
pub(crate) struct Line {
    pub(crate) bytes: Vec<u8>,
    /// Arrives with the first byte (`SCM_RIGHTS`).
    pub(crate) fd: Option<OwnedFd>,
}

pub(crate) async fn send(stream: &UnixStream, line: Line) -> io::Result<()> {
    let Line { bytes, mut fd } = line;
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let piece = || send_piece(stream, rest, fd.as_ref());
        let sent = stream.async_io(Interest::WRITABLE, piece).await?;
        rest = &rest[sent..];
        fd = None;
    }
    Ok(())
}

fn send_piece(stream: &UnixStream, bytes: &[u8], fd: Option<&OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = fd.map(AsFd::as_fd);
    if let Some(fd) = &fds {
        // There is space for one.
        control.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(fd)));
    }
    let sent = sendmsg(
        stream,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    );
    Ok(sent?)
}
