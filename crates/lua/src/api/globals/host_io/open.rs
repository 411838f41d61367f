//! Opens files whose operations may block, and determines which paths those are.

use super::source::Source;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;
use tokio::net::unix::pipe;

/// Major number of `/dev/null`, `/dev/zero` and their like, which never block.
const MEMORY_DEVICES: u64 = 1;
/// `O_NONBLOCK | O_NOCTTY`.
const FLAGS: i32 = 0o4000 | 0o400;
/// Bytes that are read at once to find out whether a pipe has a writer.
const PIPE_BUF: usize = 4096;
/// Interval of the checks whether the other end of a pipe was opened.
const PIPE_INTERVAL: Duration = Duration::from_millis(10);

/// What is behind a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Lua's own library does it: a regular file, a folder, nothing at all.
    Plain,
    Pipe,
    /// A terminal, or another device that may block.
    Device,
    /// What the run's own output goes to.
    Output,
}

/// What `path` is, to be written, if `write`.
pub(super) fn kind(path: &Path, write: bool) -> Kind {
    let Ok(metadata) = fs_err::metadata(path) else {
        return Kind::Plain;
    };
    let file_type = metadata.file_type();
    let is_device = file_type.is_char_device();
    if is_device && (metadata.rdev() >> 8) & 0xfff == MEMORY_DEVICES {
        return Kind::Plain;
    }
    if write && is_our_output(&metadata) {
        return Kind::Output;
    }
    match () {
        () if file_type.is_fifo() => Kind::Pipe,
        () if is_device => Kind::Device,
        () => Kind::Plain,
    }
}

fn is_our_output(metadata: &Metadata) -> bool {
    let same = |ours: Metadata| (ours.dev(), ours.ino()) == (metadata.dev(), metadata.ino());
    [1, 2]
        .iter()
        .filter_map(|number| fs_err::metadata(format!("/proc/self/fd/{number}")).ok())
        .any(same)
}

/// Opens a pipe to be read; waits, as opening one does, until it has a writer. The bytes came
/// meanwhile.
pub(super) async fn pipe_reader(path: &Path) -> io::Result<(Source, Vec<u8>)> {
    let receiver = pipe::OpenOptions::new().open_receiver(path)?;
    let mut file = File::from(receiver.as_fd().try_clone_to_owned()?);
    let mut piece = vec![0; PIPE_BUF];
    loop {
        tokio::select! {
            // There is something to read, or a writer has come and gone.
            ready = receiver.readable() => {
                ready?;
                return Ok((Source::Pipe(receiver), Vec::new()));
            }
            () = tokio::time::sleep(PIPE_INTERVAL) => {}
        }
        // A pipe that is not open for writing anywhere is at its end; else there is nothing to read yet.
        match file.read(&mut piece) {
            Ok(0) => {}
            Ok(count) => {
                piece.truncate(count);
                return Ok((Source::Pipe(receiver), piece));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok((Source::Pipe(receiver), Vec::new()));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Opens a device to be read.
pub(super) fn device_reader(path: &Path) -> io::Result<Source> {
    Source::of(File::options().read(true).custom_flags(FLAGS).open(path)?)
}

/// Opens a pipe to be written; waits, as opening one does, until it has a reader.
pub(super) async fn pipe_writer(path: &Path) -> io::Result<pipe::Sender> {
    /// No such device or address: it has no reader.
    const ENXIO: i32 = 6;
    loop {
        match pipe::OpenOptions::new().open_sender(path) {
            Err(error) if error.raw_os_error() == Some(ENXIO) => {
                tokio::time::sleep(PIPE_INTERVAL).await;
            }
            opened => return opened,
        }
    }
}

/// Opens a device to be written.
pub(super) fn device_writer(path: &Path) -> io::Result<File> {
    File::options().write(true).custom_flags(FLAGS).open(path)
}
