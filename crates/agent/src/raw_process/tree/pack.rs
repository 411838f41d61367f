//! A directory to the host.

use super::super::operation::{Operation, with_room};
use super::super::transfer;
use super::path::Path;
use crate::failure::{self, OpResult};
use crate::sys::tree::{self, Names};
use crate::sys::{Errno, file};
use provium_protocol::message::EntryType;
use provium_protocol::tree::{MAX_DATA, MAX_DEPTH, TreeError, TreeRecord};
use provium_protocol::{Reply, WireError};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Memory for the names of one directory, bytes.
const NAMES: usize = 32 * 1024;
/// Records are gathered up to this size, bytes.
const GATHERED: usize = 128 * 1024;
/// Opens a file whatever it has become: a FIFO would be waited for.
const FLAGS: i32 = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;

/// Sends a directory and all that is in it.
pub(in crate::raw_process) fn pack(operation: &Operation, path: &[u8]) -> OpResult {
    let path = operation.resolve(path);
    let open = || file::open(&path, libc::O_RDONLY | libc::O_DIRECTORY, 0);
    let folder = with_room(open).map_err(|errno| failure::os("open", errno))?;
    let pipe = transfer::output(operation)?;
    let mut packer = Packer {
        pipe,
        records: Vec::with_capacity(GATHERED + 2 * MAX_DATA),
        sent: 0,
        names: Vec::new(),
        content: vec![0; MAX_DATA],
        path: Path::new(),
    };
    packer.directory(folder.as_raw_fd())?;
    let found = packer.look(folder.as_raw_fd(), c"")?;
    packer.add(TreeRecord::End(found.metadata()));
    packer.flush();
    Ok(Reply::Count(packer.sent))
}

struct Packer {
    pipe: OwnedFd,
    /// What has not been sent.
    records: Vec<u8>,
    sent: u64,
    /// Memory for names, one piece for each directory that is open.
    names: Vec<Vec<u8>>,
    content: Vec<u8>,
    path: Path,
}

impl Packer {
    fn add(&mut self, record: TreeRecord<'_>) {
        record.encode(&mut self.records);
        if self.records.len() >= GATHERED {
            self.flush();
        }
    }

    fn flush(&mut self) {
        transfer::send(&self.pipe, &self.records);
        self.sent += self.records.len() as u64;
        self.records.clear();
    }

    fn look(&self, folder: RawFd, name: &CStr) -> Result<tree::EntryStat, WireError> {
        tree::look(folder, name).map_err(|errno| self.path.error("stat", name.to_bytes(), errno))
    }

    /// All that is in a directory.
    fn directory(&mut self, folder: RawFd) -> Result<(), WireError> {
        let mut buffer = self.names.pop().unwrap_or_else(|| vec![0; NAMES]);
        let mut names = Names::new(folder, &mut buffer);
        loop {
            let next = names.next();
            match next.map_err(|errno| self.path.error("list", b"", errno))? {
                Some(name) => self.entry(folder, name)?,
                None => break,
            }
        }
        self.names.push(buffer);
        Ok(())
    }

    fn entry(&mut self, folder: RawFd, name: &CStr) -> Result<(), WireError> {
        let found = match tree::look(folder, name) {
            // It was deleted meanwhile.
            Err(Errno::NOENT) => return Ok(()),
            found => found.map_err(|errno| self.path.error("stat", name.to_bytes(), errno))?,
        };
        match found.entry_type() {
            EntryType::Dir => self.subdirectory(folder, name),
            EntryType::File => self.file(folder, name),
            EntryType::Symlink => {
                let mut target = [0; libc::PATH_MAX as usize];
                // One byte less, so that a zero byte follows.
                let room = target.len() - 1;
                let target = tree::read_link(folder, name, &mut target[..room])
                    .and_then(|_| CStr::from_bytes_until_nul(&target).map_err(|_| Errno::IO))
                    .map_err(|errno| self.path.error("readlink", name.to_bytes(), errno))?;
                let mtime = found.mtime();
                self.add(TreeRecord::Symlink {
                    name,
                    target,
                    mtime,
                });
                Ok(())
            }
            entry_type => {
                self.add(TreeRecord::Skipped { name, entry_type });
                Ok(())
            }
        }
    }

    fn open(&self, folder: RawFd, name: &CStr, flags: i32) -> Result<OwnedFd, WireError> {
        with_room(|| file::open_at(folder, name, flags, 0))
            .map_err(|errno| self.path.error("open", name.to_bytes(), errno))
    }

    fn subdirectory(&mut self, folder: RawFd, name: &CStr) -> Result<(), WireError> {
        if self.path.depth() == MAX_DEPTH {
            return Err(failure::invalid(TreeError::Depth.to_string()));
        }
        let inner = self.open(folder, name, FLAGS | libc::O_DIRECTORY)?;
        self.path.push(name.to_bytes());
        self.add(TreeRecord::Enter(name));
        self.directory(inner.as_raw_fd())?;
        // Its time is that from after the copy, if it changes meanwhile.
        let found = self.look(inner.as_raw_fd(), c"")?;
        self.add(TreeRecord::Leave(found.metadata()));
        self.path.pop();
        Ok(())
    }

    /// A file with its content, but for its holes.
    fn file(&mut self, folder: RawFd, name: &CStr) -> Result<(), WireError> {
        let file = self.open(folder, name, FLAGS)?;
        let fd = file.as_raw_fd();
        let found = self.look(fd, c"")?;
        let size = found.size();
        self.add(TreeRecord::File {
            name,
            metadata: found.metadata(),
            size,
        });
        let mut at = 0;
        while at < size {
            let seek = |offset: u64, whence| file::seek(fd, offset.cast_signed(), whence);
            let start = match seek(at, libc::SEEK_DATA) {
                // The rest is a hole.
                Err(Errno(libc::ENXIO)) => break,
                Ok(start) => start.clamp(at, size),
                // The file system has no holes.
                Err(_) => at,
            };
            let end = match seek(start, libc::SEEK_HOLE) {
                Ok(end) if end > start => end.min(size),
                _ => size,
            };
            at = self.data(fd, name, start, end)?;
        }
        Ok(())
    }

    /// The bytes from `start` to `end`; returns where the next piece may begin.
    fn data(&mut self, fd: RawFd, name: &CStr, start: u64, end: u64) -> Result<u64, WireError> {
        let mut offset = start;
        while offset < end {
            let wanted = usize::try_from(end - offset)
                .unwrap_or(MAX_DATA)
                .min(MAX_DATA);
            let got = match file::read_from(fd, &mut self.content[..wanted], offset) {
                Err(Errno::INTR) => continue,
                got => got.map_err(|errno| self.path.error("read", name.to_bytes(), errno))?,
            };
            if got == 0 {
                // It has become shorter.
                return Ok(u64::MAX);
            }
            let content = std::mem::take(&mut self.content);
            self.add(TreeRecord::Data {
                offset,
                bytes: &content[..got],
            });
            self.content = content;
            offset += got as u64;
        }
        Ok(end)
    }
}
