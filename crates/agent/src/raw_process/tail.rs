//! Following a file that grows.
//!
//! The file is watched with inotify, its folder too (for a file that takes its name); where neither
//! says anything (as in `/proc`), it is looked at twice a second. The process ends when its pipe has no
//! reader any more.

use super::operation::Operation;
use super::transfer;
use crate::failure::{self, OpResult};
use crate::sys::{Errno, Sys, fd, file, process};
use provium_protocol::op::TailStart;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

const LOOK: Duration = Duration::from_millis(500);
const CHUNK: usize = 64 * 1024;

/// Follows the file of a name.
pub(super) fn follow_path(operation: &Operation, path: Vec<u8>, start: TailStart) -> OpResult {
    let mut tail = Tail::open(path, start).map_err(|errno| failure::os("open", errno))?;
    let pipe = transfer::output(operation)?;
    Err(failure::os("read", tail.run(&pipe)))
}

/// Follows an open file from its offset, which stays where it is; streams what has no offset.
pub(super) fn follow_descriptor(operation: &Operation, fd: RawFd) -> OpResult {
    match file::seek(fd, 0, libc::SEEK_CUR) {
        Ok(offset) => {
            let pipe = transfer::output(operation)?;
            Err(failure::os("read", follow_offset(fd, offset, &pipe)))
        }
        Err(Errno(libc::ESPIPE)) => transfer::stream(operation, fd),
        Err(errno) => Err(failure::os("read", errno)),
    }
}

fn follow_offset(fd: RawFd, mut offset: u64, pipe: &OwnedFd) -> Errno {
    let watcher = file::watcher().ok();
    if let Some(watcher) = &watcher {
        let path = format!("/proc/self/fd/{fd}");
        let _ = file::add_watch(watcher.as_raw_fd(), path.as_bytes(), libc::IN_MODIFY);
    }
    let mut buffer = vec![0; CHUNK];
    loop {
        drain(watcher.as_ref());
        match file::stat_fd(fd) {
            Ok(found) if found.size() > 0 && found.size() < offset => offset = 0,
            Ok(_) => {}
            Err(errno) => return errno,
        }
        loop {
            match file::read_from(fd, &mut buffer, offset) {
                Ok(0) | Err(Errno::AGAIN) => break,
                Ok(got) => {
                    offset += got as u64;
                    transfer::send(pipe, &buffer[..got]);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return errno,
            }
        }
        wait(watcher.as_ref(), pipe);
    }
}

struct Tail {
    path: Vec<u8>,
    file: OwnedFd,
    offset: u64,
    /// How long it was last; less means that it was cut.
    size: u64,
    /// Files of `/proc` have no size, whatever is in them.
    sized: bool,
    watcher: Option<OwnedFd>,
}

impl Tail {
    fn open(path: Vec<u8>, start: TailStart) -> Sys<Self> {
        let flags = libc::O_RDONLY | libc::O_NONBLOCK;
        let file = super::operation::with_room(|| file::open(&path, flags, 0))?;
        let size = file::stat_fd(file.as_raw_fd())?.size();
        let offset = match start {
            TailStart::Beginning => 0,
            TailStart::End => size,
            TailStart::At(offset) => offset,
            TailStart::BeforeEnd(bytes) => size.saturating_sub(bytes),
        };
        let watcher = file::watcher().ok();
        let mut tail = Self {
            path,
            file,
            offset,
            size,
            sized: size > 0,
            watcher,
        };
        tail.seek()?;
        tail.watch();
        Ok(tail)
    }

    fn seek(&mut self) -> Sys<()> {
        match file::seek(
            self.file.as_raw_fd(),
            self.offset.cast_signed(),
            libc::SEEK_SET,
        ) {
            // A pipe has no offsets.
            Err(Errno(libc::ESPIPE)) => Ok(()),
            other => other.map(drop),
        }
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
    fn run(&mut self, pipe: &OwnedFd) -> Errno {
        let mut buffer = vec![0; CHUNK];
        loop {
            // Before reading, so that nothing that happens later is missed.
            drain(self.watcher.as_ref());
            if let Err(errno) = self.send_new(pipe, &mut buffer) {
                return errno;
            }
            match self.replaced() {
                Ok(true) => {}
                Ok(false) => wait(self.watcher.as_ref(), pipe),
                Err(errno) => return errno,
            }
        }
    }

    fn send_new(&mut self, pipe: &OwnedFd, buffer: &mut [u8]) -> Sys<()> {
        let size = file::stat_fd(self.file.as_raw_fd())?.size();
        self.sized |= size > 0;
        if self.sized && size < self.size {
            self.offset = 0;
            self.seek()?;
        }
        self.size = size;
        loop {
            match fd::read(self.file.as_raw_fd(), buffer) {
                Ok(0) | Err(Errno::AGAIN) => return Ok(()),
                Ok(got) => {
                    self.offset += got as u64;
                    self.size = self.size.max(self.offset);
                    transfer::send(pipe, &buffer[..got]);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Goes over to the file that has the name now, if it is another.
    fn replaced(&mut self) -> Sys<bool> {
        let ours = file::stat_fd(self.file.as_raw_fd())?.inode();
        match file::stat(&self.path) {
            Ok(found) if found.inode() != ours => {}
            _ => return Ok(false),
        }
        match file::open(&self.path, libc::O_RDONLY | libc::O_NONBLOCK, 0) {
            Ok(file) => {
                self.file = file;
                (self.offset, self.size, self.sized) = (0, 0, false);
                self.watch();
                Ok(true)
            }
            // It may be gone again; the next look tells.
            Err(_) => Ok(false),
        }
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
