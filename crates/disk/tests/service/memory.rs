//! A disk in memory, with a note of every command.

use camino::Utf8PathBuf;
use provium_disk::DiskService;
use provium_disk::{Admission, Command, CommandKind, Export, FlushPoint};
use rustix::io::Errno;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tempfile::TempDir;

/// What decides about the delay of a command.
type Delay = Box<dyn Fn(&Command) -> Duration + Send + Sync>;

pub(crate) struct Memory {
    data: Mutex<Vec<u8>>,
    is_read_only: bool,
    delay: Delay,
    /// Commands in the order of `admit`.
    admitted: Mutex<Vec<Command>>,
    /// Commands in the order in which they were carried out.
    done: Mutex<Vec<Command>>,
    /// Fails every command.
    error: Mutex<Option<Errno>>,
}

impl Memory {
    pub(crate) fn new(size: usize) -> Self {
        Self {
            data: Mutex::new(vec![0; size]),
            is_read_only: false,
            delay: Box::new(|_| Duration::ZERO),
            admitted: Mutex::default(),
            done: Mutex::default(),
            error: Mutex::default(),
        }
    }

    pub(crate) fn read_only(self) -> Self {
        Self {
            is_read_only: true,
            ..self
        }
    }

    pub(crate) fn delayed(
        self,
        delay: impl Fn(&Command) -> Duration + Send + Sync + 'static,
    ) -> Self {
        Self {
            delay: Box::new(delay),
            ..self
        }
    }

    pub(crate) fn fail(&self, error: Option<Errno>) {
        *lock(&self.error) = error;
    }

    pub(crate) fn content(&self) -> Vec<u8> {
        lock(&self.data).clone()
    }

    pub(crate) fn admitted(&self) -> Vec<Command> {
        lock(&self.admitted).clone()
    }

    pub(crate) fn done(&self) -> Vec<Command> {
        lock(&self.done).clone()
    }

    fn begin(&self, admission: &Admission) -> Result<Range<usize>, Errno> {
        let command = admission.command;
        lock(&self.done).push(command);
        if let Some(errno) = *lock(&self.error) {
            return Err(errno);
        }
        let start = command.offset as usize;
        Ok(start..start + command.length as usize)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic")
}

impl Export for Memory {
    fn size(&self) -> u64 {
        lock(&self.data).len() as u64
    }

    fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    fn admit(&self, command: Command) -> Admission {
        lock(&self.admitted).push(command);
        Admission {
            delay: (self.delay)(&command),
            ..Admission::normal(command)
        }
    }

    fn read(&self, admission: &Admission, buffer: &mut [u8]) -> Result<(), Errno> {
        let range = self.begin(admission)?;
        buffer.copy_from_slice(&lock(&self.data)[range]);
        Ok(())
    }

    fn write(&self, admission: &Admission, data: &[u8]) -> Result<(), Errno> {
        let range = self.begin(admission)?;
        lock(&self.data)[range].copy_from_slice(data);
        Ok(())
    }

    fn prepare_flush(&self, _command: Command) -> Result<FlushPoint, Errno> {
        let error = *lock(&self.error);
        error.map_or(Ok(FlushPoint::default()), Err)
    }

    fn complete_flush(&self, command: Command, prepared: Result<FlushPoint, Errno>) {
        let admission = self.admit(command);
        if prepared.is_ok() {
            self.begin(&admission)
                .expect("flushes of a drain fail when they are prepared");
        }
    }

    fn carry_out(&self, admission: &Admission) -> Result<(), Errno> {
        let range = self.begin(admission)?;
        if admission.command.kind != CommandKind::Flush {
            lock(&self.data)[range].fill(0);
        }
        Ok(())
    }
}

/// A disk that is served in a folder of its own.
pub(crate) struct Served {
    pub(crate) disk: Arc<Memory>,
    pub(crate) service: DiskService,
    pub(crate) socket: Utf8PathBuf,
    /// Removed at the end.
    _folder: TempDir,
}

impl Served {
    pub(crate) fn new(disk: Memory) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("disk.sock");
        let socket = Utf8PathBuf::from_path_buf(socket).expect("UTF-8");
        let disk = Arc::new(disk);
        let export: Arc<dyn Export> = Arc::clone(&disk) as _;
        let service = DiskService::start(export, "disk", &socket).expect("a service");
        Self {
            disk,
            service,
            socket,
            _folder: folder,
        }
    }

    pub(crate) fn uri(&self) -> String {
        format!("nbd+unix:///disk?socket={}", self.socket)
    }
}
