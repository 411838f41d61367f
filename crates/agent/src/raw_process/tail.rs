//! Following a file that grows.
//!
//! The file is watched with inotify, its folder too (for a file that takes its name); where neither
//! says anything (as in `/proc`), it is looked at twice a second. The process ends when its pipe has no
//! reader any more.
//!
//! A file that is shorter than before, or in which other bytes precede the offset, was rewritten between two
//! looks: it is read again from its start. That, and what happens to its name, is reported beside the bytes.

use super::operation::{Operation, with_room};
use super::stream_pipes::{StreamPipes, check_readable};
use super::transfer;
use crate::failure::{self, OpResult};
use crate::sys::{Errno, Sys, fd, file, process};
use provium_protocol::message::EntryType;
use provium_protocol::op::{NoticeKind, TailStart};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

const LOOK: Duration = Duration::from_millis(500);
const CHUNK: usize = 64 * 1024;
/// How many bytes before the offset are compared, to find that a file was rewritten.
const COMPARED: usize = 64;

/// Follows the file of a name.
pub(super) fn follow_path(operation: &Operation, path: Vec<u8>, start: TailStart) -> OpResult {
    let mut tail = Tail::open(path, start).map_err(|errno| failure::os("open", errno))?;
    let mut pipes = StreamPipes::open(operation)?;
    Err(failure::os("read", tail.run(&mut pipes)))
}

/// Follows an open file from its offset, which stays where it is; streams what has no offset.
pub(super) fn follow_descriptor(operation: &Operation, fd: RawFd) -> OpResult {
    let offset = match file::seek(fd, 0, libc::SEEK_CUR) {
        Ok(offset) => offset,
        Err(Errno(libc::ESPIPE)) => return transfer::stream(operation, fd, true),
        Err(errno) => return Err(failure::os("read", errno)),
    };
    check_readable(fd).map_err(|errno| failure::os("read", errno))?;
    let mut pipes = StreamPipes::open(operation)?;
    Err(failure::os("read", follow_offset(fd, offset, &mut pipes)))
}

fn follow_offset(fd: RawFd, offset: u64, pipes: &mut StreamPipes) -> Errno {
    let watcher = file::watcher().ok();
    if let Some(watcher) = &watcher {
        let path = format!("/proc/self/fd/{fd}");
        let _ = file::add_watch(watcher.as_raw_fd(), path.as_bytes(), libc::IN_MODIFY);
    }
    let mut reader = Reader::new(fd, offset, 0);
    reader.has_shared_offset = true;
    let mut buffer = vec![0; CHUNK];
    loop {
        drain(watcher.as_ref());
        if let Err(errno) = reader.send_new(pipes, &mut buffer) {
            return errno;
        }
        wait(watcher.as_ref(), pipes.bytes());
    }
}

/// An open file that is read from an offset on.
struct Reader {
    fd: RawFd,
    offset: u64,
    /// The descriptor's own offset is a test's, and must stay.
    has_shared_offset: bool,
    /// How long the file was last; less means that it was cut.
    size: u64,
    /// Files of `/proc` have no size, whatever is in them.
    is_sized: bool,
    /// The bytes before `offset`, at most [`COMPARED`].
    before: Vec<u8>,
}

impl Reader {
    fn new(fd: RawFd, offset: u64, size: u64) -> Self {
        let mut reader = Self {
            fd,
            offset,
            has_shared_offset: false,
            size,
            is_sized: size > 0,
            before: Vec::new(),
        };
        if let Some(before) = reader.read_before(COMPARED) {
            reader.before = before;
        }
        reader
    }

    /// Up to `count` bytes before the offset, as they are now; `None` if they are not there.
    fn read_before(&self, count: usize) -> Option<Vec<u8>> {
        let count = self.offset.min(count as u64);
        let mut bytes = vec![0; usize::try_from(count).ok()?];
        let got = file::read_from(self.fd, &mut bytes, self.offset - count);
        (got == Ok(bytes.len())).then_some(bytes)
    }

    /// Sends what was added. Reads from the start again if that is not all that has changed.
    fn send_new(&mut self, pipes: &mut StreamPipes, buffer: &mut [u8]) -> Sys<()> {
        let size = file::stat_fd(self.fd)?.size();
        self.is_sized |= size > 0;
        if let Some(change) = self.rewritten(size) {
            pipes.report(change);
            self.offset = 0;
            self.before.clear();
            if !self.has_shared_offset {
                self.seek()?;
            }
        }
        self.size = size;
        loop {
            let read = if self.has_shared_offset {
                file::read_from(self.fd, buffer, self.offset)
            } else {
                fd::read(self.fd, buffer)
            };
            match read {
                Ok(0) | Err(Errno::AGAIN) => return Ok(()),
                Ok(got) => {
                    self.offset += got as u64;
                    self.size = self.size.max(self.offset);
                    self.remember(&buffer[..got]);
                    pipes.send(&buffer[..got]);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// How it was rewritten, if it was; `size`: how long it is now.
    fn rewritten(&self, size: u64) -> Option<NoticeKind> {
        if !self.is_sized {
            return None;
        }
        if size < self.size {
            return Some(NoticeKind::Truncated);
        }
        let now = self.read_before(self.before.len())?;
        (now != self.before).then_some(NoticeKind::Rewritten)
    }

    fn remember(&mut self, bytes: &[u8]) {
        self.before
            .extend_from_slice(&bytes[bytes.len().saturating_sub(COMPARED)..]);
        let surplus = self.before.len().saturating_sub(COMPARED);
        self.before.drain(..surplus);
    }

    fn seek(&self) -> Sys<()> {
        match file::seek(self.fd, self.offset.cast_signed(), libc::SEEK_SET) {
            // A pipe has no offsets.
            Err(Errno(libc::ESPIPE)) => Ok(()),
            other => other.map(drop),
        }
    }
}

struct Tail {
    path: Vec<u8>,
    file: OwnedFd,
    reader: Reader,
    /// The path leads to no file, or to a directory, and that was reported.
    is_removed: bool,
    watcher: Option<OwnedFd>,
}

impl Tail {
    fn open(path: Vec<u8>, start: TailStart) -> Sys<Self> {
        let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = with_room(|| file::open(&path, flags, 0))?;
        check_readable(file.as_raw_fd())?;
        let size = file::stat_fd(file.as_raw_fd())?.size();
        let offset = match start {
            TailStart::Beginning => 0,
            TailStart::End => size,
            TailStart::At(offset) => offset,
            TailStart::BeforeEnd(bytes) => size.saturating_sub(bytes),
        };
        let reader = Reader::new(file.as_raw_fd(), offset, size);
        reader.seek()?;
        Ok(Self {
            path,
            file,
            reader,
            is_removed: false,
            watcher: None,
        })
    }

    fn watch(&self) {
        let Some(watcher) = &self.watcher else { return };
        let watcher = watcher.as_raw_fd();
        let grows = libc::IN_MODIFY | libc::IN_ATTRIB | libc::IN_MOVE_SELF | libc::IN_DELETE_SELF;
        let _ = file::add_watch(watcher, &self.path, grows);
        let folder = match self.path.iter().rposition(|byte| *byte == b'/') {
            Some(0) => b"/".as_slice(),
            Some(end) => &self.path[..end],
            None => b".",
        };
        let _ = file::add_watch(watcher, folder, libc::IN_CREATE | libc::IN_MOVED_TO);
    }

    /// Continues until an error occurs.
    fn run(&mut self, pipes: &mut StreamPipes) -> Errno {
        self.watcher = file::watcher().ok();
        self.watch();
        let mut buffer = vec![0; CHUNK];
        loop {
            // Before reading, so that nothing that happens later is missed.
            drain(self.watcher.as_ref());
            if let Err(errno) = self.reader.send_new(pipes, &mut buffer) {
                return errno;
            }
            match self.successor(pipes) {
                Ok(Some(file)) => {
                    // What was added to the old file before the new one took its name.
                    if let Err(errno) = self.reader.send_new(pipes, &mut buffer) {
                        return errno;
                    }
                    pipes.report(NoticeKind::Replaced);
                    self.reader = Reader::new(file.as_raw_fd(), 0, 0);
                    self.file = file;
                    self.watch();
                }
                Ok(None) => wait(self.watcher.as_ref(), pipes.bytes()),
                Err(errno) => return errno,
            }
        }
    }

    /// The file that the path leads to, if it is another one. Reports when there is none.
    fn successor(&mut self, pipes: &StreamPipes) -> Sys<Option<OwnedFd>> {
        let ours = file::stat_fd(self.file.as_raw_fd())?.inode();
        let found = file::stat(&self.path);
        let is_removed = match &found {
            Ok(found) => found.entry_type() == EntryType::Dir,
            Err(errno) => matches!(errno, Errno(libc::ENOENT | libc::ENOTDIR)),
        };
        if is_removed && !self.is_removed {
            pipes.report(NoticeKind::Removed);
        }
        self.is_removed = is_removed;
        if is_removed || !found.is_ok_and(|found| found.inode() != ours) {
            return Ok(None);
        }
        // The name may be gone again, or lead to a directory: the next look tells.
        let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = file::open(&self.path, flags, 0).ok();
        let is_file = |file: &OwnedFd| {
            file::stat_fd(file.as_raw_fd()).is_ok_and(|found| found.entry_type() != EntryType::Dir)
        };
        Ok(file.filter(is_file))
    }
}

fn drain(watcher: Option<&OwnedFd>) {
    let Some(watcher) = watcher else { return };
    let mut events = [0; 4096];
    while fd::read(watcher.as_raw_fd(), &mut events).is_ok_and(|got| got > 0) {}
}

/// Waits for a change of the file. Ends the process when the pipe has no reader any more.
fn wait(watcher: Option<&OwnedFd>, pipe: &OwnedFd) {
    let mut fds = vec![fd::interest(pipe.as_raw_fd(), 0)];
    fds.extend(watcher.map(|fd| fd::interest(fd.as_raw_fd(), libc::POLLIN)));
    let _ = fd::poll(&mut fds, Some(LOOK));
    if fds[0].revents & libc::POLLERR != 0 {
        process::exit(0);
    }
}
