//! A directory of the host as records.

use super::outcome::{HostError, TreeSummary};
use provium_protocol::message::EntryType;
use provium_protocol::tree::{FileTime, MAX_DATA, MAX_DEPTH, Metadata, TreeError, TreeRecord};
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::ffi::{CString, OsString};
use std::fs::{self, File, FileType};
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use tokio::sync::mpsc;

/// Records are gathered up to this size, bytes.
const GATHERED: usize = 128 * 1024;

/// Why packing ended early.
pub(super) enum PackError {
    /// The receiver takes no more.
    Closed,
    /// The host's files cannot be read.
    Failed(HostError),
}

/// Sends a directory and all that is in it, in the order of the names. Blocks.
pub(super) fn pack(path: &Path, to: &mpsc::Sender<Vec<u8>>) -> Result<TreeSummary, PackError> {
    let mut packer = Packer {
        root: path,
        to,
        records: Vec::with_capacity(2 * GATHERED),
        content: vec![0; MAX_DATA],
        summary: TreeSummary::default(),
    };
    packer.directory(path, 0)?;
    let found = packer.stat(path)?;
    packer.add(TreeRecord::End(metadata(&found)))?;
    packer.flush()?;
    Ok(packer.summary)
}

struct Packer<'a> {
    root: &'a Path,
    to: &'a mpsc::Sender<Vec<u8>>,
    /// What has not been sent.
    records: Vec<u8>,
    content: Vec<u8>,
    summary: TreeSummary,
}

impl Packer<'_> {
    fn add(&mut self, record: TreeRecord<'_>) -> Result<(), PackError> {
        record.encode(&mut self.records);
        if self.records.len() < GATHERED {
            return Ok(());
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), PackError> {
        let room = Vec::with_capacity(2 * GATHERED);
        let records = std::mem::replace(&mut self.records, room);
        self.to
            .blocking_send(records)
            .map_err(|_| PackError::Closed)
    }

    fn stat(&self, path: &Path) -> Result<fs::Metadata, PackError> {
        fs::metadata(path).map_err(|error| failed("read", path, error))
    }

    fn directory(&mut self, path: &Path, depth: usize) -> Result<(), PackError> {
        if depth > MAX_DEPTH {
            let deep = io::Error::other(TreeError::Depth);
            return Err(failed("copy", path, deep));
        }
        let list = || -> io::Result<Vec<OsString>> {
            let entries = fs::read_dir(path)?;
            entries.map(|entry| Ok(entry?.file_name())).collect()
        };
        let mut names = list().map_err(|error| failed("read", path, error))?;
        names.sort_unstable();
        for name in names {
            self.entry(&path.join(&name), name, depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, name: OsString, depth: usize) -> Result<(), PackError> {
        let found = match fs::symlink_metadata(path) {
            // It was deleted meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            found => found.map_err(|error| failed("read", path, error))?,
        };
        let name = c_string(name).map_err(|error| failed("read", path, error))?;
        let kind = found.file_type();
        if kind.is_dir() {
            self.summary.directories += 1;
            self.add(TreeRecord::Enter(&name))?;
            self.directory(path, depth + 1)?;
            let found = self.stat(path)?;
            self.add(TreeRecord::Leave(metadata(&found)))
        } else if kind.is_file() {
            self.summary.files += 1;
            self.file(path, &name)
        } else if kind.is_symlink() {
            self.summary.links += 1;
            let target = fs::read_link(path).and_then(|target| c_string(target.into()));
            let target = target.map_err(|error| failed("read", path, error))?;
            self.add(TreeRecord::Symlink {
                name: &name,
                target: &target,
                mtime: mtime(&found),
            })
        } else {
            let below = path.strip_prefix(self.root).unwrap_or(path);
            let below = below.as_os_str().to_owned().into_vec();
            self.summary.skipped.push(below);
            self.add(TreeRecord::Skipped {
                name: &name,
                entry_type: special(kind),
            })
        }
    }

    /// A file with its content, but for its holes.
    fn file(&mut self, path: &Path, name: &std::ffi::CStr) -> Result<(), PackError> {
        let read = |error: io::Error| failed("read", path, error);
        // It may have become a FIFO since, or a link to somewhere else.
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW;
        let flags = i32::try_from(flags.bits()).unwrap_or_default();
        let mut options = File::options();
        let file = options.read(true).custom_flags(flags).open(path);
        let file = file.map_err(read)?;
        let found = file.metadata().map_err(read)?;
        let size = found.len();
        self.add(TreeRecord::File {
            name,
            metadata: metadata(&found),
            size,
        })?;
        let mut at = 0;
        while at < size {
            let start = match rustix::fs::seek(&file, SeekFrom::Data(at)) {
                // The rest is a hole.
                Err(Errno::NXIO) => break,
                Ok(start) => start.clamp(at, size),
                // The file system has no holes.
                Err(_) => at,
            };
            let end = match rustix::fs::seek(&file, SeekFrom::Hole(start)) {
                Ok(end) if end > start => end.min(size),
                _ => size,
            };
            at = start;
            while at < end {
                let wanted = usize::try_from(end - at).unwrap_or(MAX_DATA).min(MAX_DATA);
                let mut content = std::mem::take(&mut self.content);
                let got = match file.read_at(&mut content[..wanted], at) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                        self.content = content;
                        continue;
                    }
                    got => got.map_err(read)?,
                };
                if got == 0 {
                    // It has become shorter.
                    self.content = content;
                    return Ok(());
                }
                self.summary.bytes += got as u64;
                let sent = self.add(TreeRecord::Data {
                    offset: at,
                    bytes: &content[..got],
                });
                self.content = content;
                sent?;
                at += got as u64;
            }
        }
        Ok(())
    }
}

fn failed(tried: &'static str, path: &Path, source: io::Error) -> PackError {
    PackError::Failed(HostError {
        tried,
        path: path.to_string_lossy().into_owned(),
        source,
    })
}

fn c_string(text: OsString) -> io::Result<CString> {
    Ok(CString::new(text.into_vec())?)
}

fn mtime(found: &fs::Metadata) -> FileTime {
    FileTime {
        seconds: found.mtime(),
        nanoseconds: u32::try_from(found.mtime_nsec()).unwrap_or(0),
    }
}

fn metadata(found: &fs::Metadata) -> Metadata {
    Metadata {
        perm: found.mode() & 0o7777,
        mtime: mtime(found),
    }
}

fn special(kind: FileType) -> EntryType {
    if kind.is_fifo() {
        EntryType::Fifo
    } else if kind.is_socket() {
        EntryType::Socket
    } else if kind.is_char_device() {
        EntryType::CharDevice
    } else if kind.is_block_device() {
        EntryType::BlockDevice
    } else {
        EntryType::Unknown
    }
}
