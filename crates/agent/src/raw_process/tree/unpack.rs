//! A directory from the host.
//!
//! What is in the way is replaced, but for directories: what they contain is merged, and they keep their
//! permission bits and time. A symbolic link to a directory counts as that directory.

use super::super::operation::{Operation, with_room};
use super::super::{paths, transfer};
use super::path::Path;
use crate::failure::{self, OpResult};
use crate::sys::errno::uninterrupted;
use crate::sys::tree;
use crate::sys::{Errno, Sys, fd, file};
use provium_protocol::message::EntryType;
use provium_protocol::tree::{Metadata, TreeDecoder, TreeError, TreeRecord};
use provium_protocol::{Reply, WireError};
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

const CHUNK: usize = 64 * 1024;
const FOLDER: i32 = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOCTTY;
const NEW_FILE: i32 = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOCTTY;

/// Creates a directory with what comes on the input stream.
pub(in crate::raw_process) fn unpack(operation: &Operation, path: &[u8]) -> OpResult {
    let path = operation.resolve(path);
    let is_new = matches!(file::stat(&path), Err(Errno::NOENT));
    paths::make_dir(&path, true, None)?;
    let root = with_room(|| file::open(&path, FOLDER, 0));
    let root = root.map_err(|errno| failure::os("open", errno))?;
    let pipe = transfer::input(operation)?;
    let mut unpacker = Unpacker {
        folders: vec![Folder { fd: root, is_new }],
        file: None,
        path: Path::new(),
    };
    let mut decoder = TreeDecoder::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = uninterrupted(|| fd::read(pipe.as_raw_fd(), &mut buffer));
        let got = read.map_err(|errno| failure::os("read the input", errno))?;
        if got == 0 {
            break;
        }
        decoder.push(&buffer[..got]);
        while let Some(record) = decoder.next_record().map_err(bad)? {
            unpacker.apply(&record)?;
        }
    }
    if decoder.is_complete() {
        Ok(Reply::Done)
    } else {
        Err(bad(TreeError::Incomplete))
    }
}

fn bad(error: TreeError) -> WireError {
    failure::invalid(error.to_string())
}

struct Folder {
    fd: OwnedFd,
    is_new: bool,
}

/// A file that is being written.
struct File {
    fd: OwnedFd,
    name: CString,
    metadata: Metadata,
    size: u64,
}

struct Unpacker {
    /// From the tree's directory to the current one.
    folders: Vec<Folder>,
    file: Option<File>,
    path: Path,
}

impl Unpacker {
    fn folder(&self) -> Result<RawFd, WireError> {
        let current = self.folders.last().map(|folder| folder.fd.as_raw_fd());
        current.ok_or_else(|| bad(TreeError::Malformed))
    }

    fn apply(&mut self, record: &TreeRecord<'_>) -> Result<(), WireError> {
        if !matches!(record, TreeRecord::Data { .. }) {
            self.end_file()?;
        }
        match record {
            TreeRecord::Enter(name) => self.enter(name),
            TreeRecord::Leave(metadata) => {
                self.end_folder(*metadata)?;
                self.path.pop();
                Ok(())
            }
            TreeRecord::End(metadata) => self.end_folder(*metadata),
            TreeRecord::Data { offset, bytes } => self.data(*offset, bytes),
            TreeRecord::File {
                name,
                metadata,
                size,
            } => {
                let folder = self.folder()?;
                let fd = replace(folder, name, || {
                    with_room(|| file::open_at(folder, name, NEW_FILE, 0o600))
                });
                self.file = Some(File {
                    fd: fd.map_err(|errno| self.error("create", name, errno))?,
                    name: CString::from(*name),
                    metadata: *metadata,
                    size: *size,
                });
                Ok(())
            }
            TreeRecord::Symlink {
                name,
                target,
                mtime,
            } => {
                let folder = self.folder()?;
                replace(folder, name, || tree::symlink(folder, name, target))
                    .and_then(|()| tree::set_time(folder, name, *mtime))
                    .map_err(|errno| self.error("create", name, errno))
            }
            TreeRecord::Skipped { .. } => Ok(()),
        }
    }

    fn error(&self, tried: &str, name: &CStr, errno: Errno) -> WireError {
        self.path.error(tried, name.to_bytes(), errno)
    }

    fn enter(&mut self, name: &CStr) -> Result<(), WireError> {
        let folder = self.folder()?;
        let is_new = match tree::make_dir(folder, name, 0o700) {
            Err(Errno::EXIST) => false,
            made => made
                .map(|()| true)
                .map_err(|errno| self.error("create", name, errno))?,
        };
        let fd = with_room(|| file::open_at(folder, name, FOLDER, 0));
        let fd = fd.map_err(|errno| self.error("open", name, errno))?;
        self.folders.push(Folder { fd, is_new });
        self.path.push(name.to_bytes());
        Ok(())
    }

    fn end_folder(&mut self, metadata: Metadata) -> Result<(), WireError> {
        match self.folders.pop() {
            Some(Folder { fd, is_new: true }) => set_metadata(fd.as_raw_fd(), metadata)
                .map_err(|errno| self.error("set the metadata of", c"", errno)),
            _ => Ok(()),
        }
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WireError> {
        let file = self
            .file
            .as_ref()
            .ok_or_else(|| bad(TreeError::Malformed))?;
        tree::write_at(file.fd.as_raw_fd(), bytes, offset)
            .map_err(|errno| self.error("write", &file.name, errno))
    }

    fn end_file(&mut self) -> Result<(), WireError> {
        let Some(file) = self.file.take() else {
            return Ok(());
        };
        let fd = file.fd.as_raw_fd();
        tree::set_size(fd, file.size)
            .map_err(|errno| self.error("set the size of", &file.name, errno))?;
        set_metadata(fd, file.metadata)
            .map_err(|errno| self.error("set the metadata of", &file.name, errno))
    }
}

fn set_metadata(fd: RawFd, metadata: Metadata) -> Sys<()> {
    file::chmod_fd(fd, metadata.perm)?;
    tree::set_time(fd, c"", metadata.mtime)
}

/// Makes something, and if something else has its name, once more after that was deleted.
fn replace<T>(folder: RawFd, name: &CStr, make: impl Fn() -> Sys<T>) -> Sys<T> {
    match make() {
        Err(Errno::EXIST) => {}
        made => return made,
    }
    if tree::look(folder, name)?.entry_type() == EntryType::Dir {
        return Err(Errno(libc::EISDIR));
    }
    tree::unlink(folder, name)?;
    make()
}
