//! Following a file that grows.
//!
//! The file is watched with inotify, its folder too (for a file that takes its name); where neither
//! says anything (as in `/proc`), it is looked at twice a second.

use super::call::{Call, Cancelled};
use super::job::Outcome;
use super::shared::Shared;
use crate::failure::{self, OpResult};
use crate::sys::{Errno, Sys, fd, file};
use provium_protocol::op::TailStart;
use provium_protocol::{Channel, WireError};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

const LOOK: Duration = Duration::from_millis(500);
const CHUNK: usize = 64 * 1024;

/// Opens the file and finds where to begin; the rest waits, on a thread of its own.
pub(super) fn start(path: Vec<u8>, start: TailStart) -> Outcome {
    match Tail::open(path, start) {
        Ok(mut tail) => Outcome::later(move |shared, call| tail.run(shared, call)),
        Err(errno) => Outcome::Done(Err(failure::os("open", errno))),
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
        let file = file::open(&path, libc::O_RDONLY | libc::O_NONBLOCK, 0)?;
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

    fn run(&mut self, shared: &Shared, call: &Call) -> OpResult {
        let mut buffer = vec![0; CHUNK];
        loop {
            // Before reading, so that nothing that happens later is missed.
            self.drain_watcher();
            self.send_new(shared, call, &mut buffer)?;
            if !self.replaced().map_err(Stop::Failed)? {
                self.wait(call).map_err(Stop::from)?;
            }
        }
    }

    fn send_new(&mut self, shared: &Shared, call: &Call, buffer: &mut [u8]) -> Result<(), Stop> {
        let size = file::stat_fd(self.file.as_raw_fd())?.size();
        self.sized |= size > 0;
        if self.sized && size < self.size {
            self.offset = 0;
            self.seek()?;
        }
        self.size = size;
        loop {
            let room = call.await_credit(Channel::Output)?.min(buffer.len());
            match fd::read(self.file.as_raw_fd(), &mut buffer[..room]) {
                Ok(0) | Err(Errno::AGAIN) => return Ok(()),
                Ok(got) => {
                    self.offset += got as u64;
                    self.size = self.size.max(self.offset);
                    shared.data(call, Channel::Output, &buffer[..got]);
                }
                Err(Errno::INTR) => call.wanted()?,
                Err(errno) => return Err(Stop::Failed(errno)),
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

    fn drain_watcher(&self) {
        let Some(watcher) = &self.watcher else { return };
        let mut events = [0; 4096];
        while fd::read(watcher.as_raw_fd(), &mut events).is_ok_and(|got| got > 0) {}
    }

    fn wait(&self, call: &Call) -> Result<(), Cancelled> {
        call.wanted()?;
        let mut fds: Vec<_> = self
            .watcher
            .iter()
            .map(|fd| fd::interest(fd.as_raw_fd(), libc::POLLIN))
            .collect();
        // Interrupted or not, the caller looks.
        let _ = fd::poll(&mut fds, Some(LOOK));
        call.wanted()
    }
}

enum Stop {
    Cancelled,
    Failed(Errno),
}

impl From<Cancelled> for Stop {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno)
    }
}

impl From<Stop> for WireError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Cancelled => failure::cancelled(),
            Stop::Failed(errno) => failure::os("read", errno),
        }
    }
}
