//! A disk in a folder of its own, with the commands of a guest.

use camino::Utf8PathBuf;
use provium_disk::{Base, Command, CommandKind, Disk, DiskSpec, Export, FlushPoint};
use rustix::io::Errno;

pub(crate) struct Rig {
    folder: tempfile::TempDir,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8PathBuf::from_path_buf(self.folder.path().join(name)).unwrap()
    }

    pub(crate) fn scratch(&self) -> Utf8PathBuf {
        self.path("")
    }

    pub(crate) fn folder(&self, name: &str) -> Utf8PathBuf {
        let path = self.path(name);
        std::fs::create_dir(&path).unwrap();
        path
    }

    pub(crate) fn spec(&self, size: u64, base: Base) -> DiskSpec {
        DiskSpec {
            size,
            base,
            read_only: false,
            scratch: self.scratch(),
            seed: 1,
        }
    }

    pub(crate) fn scratch_disk(&self, size: u64) -> Disk {
        Disk::open(self.spec(size, Base::Zeroes)).unwrap()
    }

    /// How many names the folder has.
    pub(crate) fn names(&self) -> usize {
        std::fs::read_dir(self.folder.path()).unwrap().count()
    }
}

/// Commands of a guest; places and lengths in sectors.
pub(crate) trait Guest {
    fn write(&self, first: u64, data: &[u8], fua: bool) -> Result<(), Errno>;
    fn read(&self, first: u64, count: u64) -> Result<Vec<u8>, Errno>;
    fn other(&self, kind: CommandKind, first: u64, count: u64) -> Result<(), Errno>;

    /// A flush that may be the guest's, and then is.
    fn prepare(&self) -> Result<FlushPoint, Errno>;
    fn complete(&self, prepared: Result<FlushPoint, Errno>);

    fn put(&self, first: u64, data: &[u8]) {
        self.write(first, data, false).unwrap();
    }

    fn flush(&self) -> Result<(), Errno> {
        self.other(CommandKind::Flush, 0, 0)
    }
}

fn command(kind: CommandKind, first: u64, bytes: u64, fua: bool) -> Command {
    Command {
        kind,
        offset: first * 512,
        length: bytes,
        fua,
    }
}

impl Guest for Disk {
    fn write(&self, first: u64, data: &[u8], fua: bool) -> Result<(), Errno> {
        let length = data.len() as u64;
        let admission = self.admit(command(CommandKind::Write, first, length, fua));
        Export::write(self, &admission, data)
    }

    fn read(&self, first: u64, count: u64) -> Result<Vec<u8>, Errno> {
        let mut data = vec![0xee; count as usize * 512];
        let admission = self.admit(command(CommandKind::Read, first, count * 512, false));
        Export::read(self, &admission, &mut data)?;
        Ok(data)
    }

    fn other(&self, kind: CommandKind, first: u64, count: u64) -> Result<(), Errno> {
        let admission = self.admit(command(kind, first, count * 512, false));
        self.carry_out(&admission)
    }

    fn prepare(&self) -> Result<FlushPoint, Errno> {
        self.prepare_flush(command(CommandKind::Flush, 0, 0, false))
    }

    fn complete(&self, prepared: Result<FlushPoint, Errno>) {
        self.complete_flush(command(CommandKind::Flush, 0, 0, false), prepared);
    }
}

/// Sectors that are all of one byte.
pub(crate) fn sectors(count: u64, byte: u8) -> Vec<u8> {
    vec![byte; count as usize * 512]
}
