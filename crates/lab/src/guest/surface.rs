//! What a VM and a worker share: commands, files, syscalls, memory.
//!
//! A VM's commands and file operations by path run in the guest's *commands* process, its raw
//! syscalls and opened files belong to its *raw* process. Everything of a worker happens in the
//! worker's own process.

use crate::error::LabError;
use crate::graph::scope::Scope;
use crate::guest::command::{CommandSpec, RunResult, exec_of, missing_shell, result_of};
use crate::guest::ending::{Waited, wait_or_kill};
use crate::guest::file::{File, OpenMode};
use crate::guest::line::Line;
use crate::guest::process::Process;
use crate::guest::raw::PendingSyscall;
use crate::guest::stream::{ByteStream, Site};
use crate::guest::tail;
use crate::guest::worker::WorkerSeat;
use crate::save::snapshot::LabCopy;
use crate::vm::Vm;
use camino::Utf8Path;
use provium_guest::{CallError, SyscallResult};
use provium_protocol::Lane;
use provium_protocol::message::{Entry, EntryType, Stat};
use provium_protocol::op::{Syscall, TailStart};
use std::sync::Arc;
use std::time::Duration;

/// Commands, files, syscalls and memory of a VM, or of a worker.
#[derive(Clone, Debug)]
pub struct Surface {
    vm: Vm,
    worker: Option<Arc<WorkerSeat>>,
}

/// How a file is written.
#[derive(Debug, Clone, Copy, Default)]
pub struct WriteMode {
    /// Permission bits, set exactly; otherwise those of the old file, or `0o644` less umask.
    pub perm: Option<u32>,
    /// Add to what is there.
    pub append: bool,
}

impl Surface {
    pub(crate) fn of_vm(vm: Vm) -> Self {
        Self { vm, worker: None }
    }

    pub(crate) fn of_worker(vm: Vm, worker: Arc<WorkerSeat>) -> Self {
        Self {
            vm,
            worker: Some(worker),
        }
    }

    /// What messages call it: ``vm `web` ``, ``worker 17 of vm `web` ``.
    pub fn subject(&self) -> String {
        match &self.worker {
            None => self.vm.subject(),
            Some(worker) => format!("worker {} of {}", worker.lane.0, self.vm.subject()),
        }
    }

    /// The VM it belongs to.
    pub fn vm(&self) -> &Vm {
        &self.vm
    }

    /// Runs a command to its end. When the time is up its process group is killed, and what it had
    /// printed is kept.
    ///
    /// # Errors
    /// Besides what the guest answers: that the command was not even started when the time was up, and
    /// why, and that the VM is paused then.
    pub async fn run(
        &self,
        spec: CommandSpec,
        timeout: Option<Duration>,
    ) -> Result<RunResult, LabError> {
        let line = self.commands(format!("run({spec})"))?;
        spec.check_size(&line)?;
        let command = line.lane.command(exec_of(&spec, false), spec.max_output);
        let (exit, timed_out) = match wait_or_kill(&line, &command, timeout).await {
            Waited::Ended(ended) => (self.started(&line, &spec, ended).await?, false),
            Waited::Killed(ended) => (self.started(&line, &spec, ended).await?, true),
            Waited::Unkilled(exit) => (exit, true),
            Waited::Failed(error) => return Err(error),
        };
        let (stdout, stderr) = (command.output().contents(), command.error().contents());
        Ok(result_of(spec.to_string(), exit, timed_out, stdout, stderr))
    }

    /// Starts a command and goes on.
    pub async fn run_async(&self, scope: &Scope, spec: CommandSpec) -> Result<Process, LabError> {
        let line = self.commands(format!("run_async({spec})"))?;
        spec.check_size(&line)?;
        let command = line.lane.command(exec_of(&spec, true), spec.max_output);
        let started = command.started().await;
        let pid = self.started(&line, &spec, started).await?;
        Ok(Process::start(line, scope, &spec, command, pid))
    }

    /// What starting a command came to, explained.
    async fn started<T>(
        &self,
        line: &Line,
        spec: &CommandSpec,
        result: Result<T, CallError>,
    ) -> Result<T, LabError> {
        let started = line.checked_start(result).await;
        started.map_err(|error| missing_shell(&spec.program, error))
    }

    /// Takes note of a process that was started through it.
    pub(crate) fn take_note(&self, process: &Process) {
        self.vm.0.processes.add(process);
        if let Some(worker) = &self.worker {
            worker.adopt(process);
        }
    }

    /// Takes note of a file that was opened through it.
    pub(crate) fn take_note_of_file(&self, file: &File) {
        self.vm.0.files.add(file);
        if let Some(worker) = &self.worker {
            worker.adopt_file(file);
        }
    }

    /// The worker that it belongs to.
    pub(crate) fn worker(&self) -> Option<&WorkerSeat> {
        self.worker.as_deref()
    }

    /// Whether it is that of a worker which is gone.
    pub(crate) fn is_gone(&self) -> bool {
        let worker = self.worker.as_ref();
        worker.is_some_and(|worker| worker.is_gone(&self.vm))
    }

    /// The same in a copy of its lab.
    pub(crate) fn in_copy(&self, copy: &LabCopy) -> Self {
        let worker = self.worker.as_ref();
        Self {
            vm: copy.vm(&self.vm),
            worker: worker.map(|seat| copy.seat(seat)),
        }
    }

    /// The file's content.
    pub async fn read_file(&self, path: &[u8]) -> Result<Vec<u8>, LabError> {
        let line = self.commands(call("read_file", path))?;
        let content = line.lane.read_file(path).await;
        line.checked(content).await
    }

    /// Creates the file, or replaces its content; the number of bytes written.
    pub async fn write_file(
        &self,
        path: &[u8],
        content: &[u8],
        mode: WriteMode,
    ) -> Result<u64, LabError> {
        let line = self.commands(call("write_file", path))?;
        let written = line
            .lane
            .write_file(path, content, mode.perm, mode.append)
            .await;
        line.checked(written).await
    }

    /// Copies a file of the host into the guest, with its permission bits unless `perm` is given.
    pub async fn push_file(
        &self,
        host: &Utf8Path,
        guest: &[u8],
        perm: Option<u32>,
    ) -> Result<u64, LabError> {
        let line = self.commands(format!("push_file(\"{host}\", {})", quoted(guest)))?;
        let opened = tokio::fs::File::open(host).await;
        let mut file = opened.map_err(|error| line.host_file(host, &error))?;
        let metadata = file
            .metadata()
            .await
            .map_err(|error| line.host_file(host, &error))?;
        if metadata.is_dir() {
            let folder = std::io::Error::from(std::io::ErrorKind::IsADirectory);
            return Err(line.host_file(host, &folder));
        }
        let perm = perm
            .unwrap_or(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7777);
        let written = line
            .lane
            .write_file_from(guest, &mut file, Some(perm), false)
            .await;
        line.checked(written).await
    }

    /// Copies a file of the guest to the host; the number of bytes.
    pub async fn pull_file(&self, guest: &[u8], host: &Utf8Path) -> Result<u64, LabError> {
        let line = self.commands(format!("pull_file({}, \"{host}\")", quoted(guest)))?;
        // Before the host's file loses its content.
        let there = line.lane.stat(guest).await;
        if line.checked(there).await?.entry_type == EntryType::Dir {
            return Err(line.invalid(format!("{} is a folder of the guest", quoted(guest))));
        }
        let created = tokio::fs::File::create(host).await;
        let mut file = created.map_err(|error| line.host_file(host, &error))?;
        let read = line.lane.read_file_to(guest, &mut file).await;
        line.checked(read).await
    }

    /// The file's metadata; links are followed.
    pub async fn stat(&self, path: &[u8]) -> Result<Stat, LabError> {
        let line = self.commands(call("stat", path))?;
        let stat = line.lane.stat(path).await;
        line.checked(stat).await
    }

    /// The folder's entries, sorted by name.
    pub async fn listdir(&self, path: &[u8]) -> Result<Vec<Entry>, LabError> {
        let line = self.commands(call("listdir", path))?;
        let entries = line.lane.list_dir(path).await;
        line.checked(entries).await
    }

    /// Makes a folder.
    pub async fn mkdir(
        &self,
        path: &[u8],
        parents: bool,
        perm: Option<u32>,
    ) -> Result<(), LabError> {
        let line = self.commands(call("mkdir", path))?;
        let made = line.lane.make_dir(path, parents, perm).await;
        line.checked(made).await
    }

    /// Removes a file, a link or an empty folder.
    pub async fn unlink(&self, path: &[u8]) -> Result<(), LabError> {
        let line = self.commands(call("unlink", path))?;
        let gone = line.lane.unlink(path).await;
        line.checked(gone).await
    }

    /// Gives a file another name.
    pub async fn rename(&self, from: &[u8], to: &[u8]) -> Result<(), LabError> {
        let line = self.commands(format!("rename({}, {})", quoted(from), quoted(to)))?;
        let renamed = line.lane.rename(from, to).await;
        line.checked(renamed).await
    }

    /// Sets permission bits.
    pub async fn chmod(&self, path: &[u8], perm: u32) -> Result<(), LabError> {
        let line = self.commands(format!("chmod({}, {perm:#o})", quoted(path)))?;
        let changed = line.lane.chmod(path, perm).await;
        line.checked(changed).await
    }

    /// Makes a symbolic link.
    pub async fn symlink(&self, target: &[u8], path: &[u8]) -> Result<(), LabError> {
        let line = self.commands(format!("symlink({}, {})", quoted(target), quoted(path)))?;
        let made = line.lane.symlink(target, path).await;
        line.checked(made).await
    }

    /// What a symbolic link says.
    pub async fn readlink(&self, path: &[u8]) -> Result<Vec<u8>, LabError> {
        let line = self.commands(call("readlink", path))?;
        let target = line.lane.read_link(path).await;
        line.checked(target).await
    }

    /// Opens a file.
    pub async fn open_file(
        &self,
        scope: &Scope,
        path: &[u8],
        mode: OpenMode,
    ) -> Result<File, LabError> {
        let line = self.raw(call("open_file", path))?;
        let flags = mode.flags().map_err(|why| line.invalid(why))?;
        let opened = line.lane.open_fd(path, flags, mode.perm()).await;
        let fd = line.checked(opened).await?;
        Ok(File::open(&line.made_now()?, scope, path, fd))
    }

    /// A file's bytes as they are added to it.
    pub async fn tail_file(
        &self,
        scope: &Scope,
        path: &[u8],
        start: TailStart,
        site: Site,
    ) -> Result<ByteStream, LabError> {
        let line = self.commands(call("tail_file", path))?;
        let subject = format!("tail of {} of {}", quoted(path), self.subject());
        let source = line.lane.tail_file(path, start);
        Ok(tail::open(line, scope, source, subject, site))
    }

    /// What a descriptor of the raw process gives up.
    pub async fn fd_stream(
        &self,
        scope: &Scope,
        fd: i32,
        site: Site,
    ) -> Result<ByteStream, LabError> {
        let line = self.raw(format!("fd_stream({fd})"))?;
        let subject = format!("stream of fd {fd} of {}", self.subject());
        let source = line.lane.stream_fd(fd);
        Ok(tail::open(line, scope, source, subject, site))
    }

    /// A raw syscall; the next one waits for it. Messages show it as the author's `call`.
    pub async fn syscall(&self, call: String, syscall: Syscall) -> Result<SyscallResult, LabError> {
        let line = self.raw(call)?;
        let made = line
            .lane
            .syscall(Syscall {
                background: false,
                ..syscall
            })
            .await;
        line.checked(made).await
    }

    /// A raw syscall on a thread of its own; it ends with the scope at the latest. Messages show it as the author's `call`.
    pub async fn syscall_async(
        &self,
        scope: &Scope,
        call: String,
        syscall: Syscall,
    ) -> Result<PendingSyscall, LabError> {
        let line = self.raw(call)?;
        Ok(PendingSyscall::start(line, scope, syscall).await)
    }

    /// Memory of the process that makes the raw syscalls; the inner error is the guest's errno.
    pub async fn read_memory(
        &self,
        address: u64,
        len: u64,
    ) -> Result<Result<Vec<u8>, i32>, LabError> {
        let line = self.raw(format!("read_mem({address:#x}, {len})"))?;
        or_errno(line.lane.read_memory(address, len).await, &line).await
    }

    /// Puts bytes into that memory; the inner error is the guest's errno.
    pub async fn write_memory(
        &self,
        address: u64,
        data: Vec<u8>,
    ) -> Result<Result<(), i32>, LabError> {
        let line = self.raw(format!("write_mem({address:#x}, {} bytes)", data.len()))?;
        or_errno(line.lane.write_memory(address, data).await, &line).await
    }

    /// Its lane.
    pub(crate) fn lane(&self) -> Lane {
        self.worker.as_ref().map_or(Lane::VM, |worker| worker.lane)
    }

    pub(crate) fn commands(&self, call: String) -> Result<Line, LabError> {
        self.line(call, self.lane())
    }

    /// The agent itself.
    pub(crate) fn agent(&self, call: String) -> Result<Line, LabError> {
        self.line(call, Lane::AGENT)
    }

    pub(crate) fn raw(&self, call: String) -> Result<Line, LabError> {
        self.line(call, self.lane())
    }

    fn line(&self, call: String, lane: Lane) -> Result<Line, LabError> {
        if let Some(worker) = &self.worker {
            worker.check(&self.vm, &self.subject(), &call)?;
        }
        let session = self.vm.session(&call)?;
        let of_worker = self.worker.as_ref().map(|worker| worker.mark);
        let line = Line {
            surface: self.clone(),
            subject: self.subject(),
            lane: session.lane(lane),
            mark: of_worker.unwrap_or(session.mark),
            begun: session.mark,
            machine: session.running.number,
            call,
        };
        line.ready("the worker")
    }
}

/// The guest's errno as a value, all else as an error.
async fn or_errno<T>(
    result: Result<T, CallError>,
    line: &Line,
) -> Result<Result<T, i32>, LabError> {
    match result {
        Err(error) if error.errno().is_some() => Ok(Err(error.errno().unwrap_or_default())),
        result => line.checked(result).await.map(Ok),
    }
}

/// `name("path")`, for messages.
fn call(name: &str, path: &[u8]) -> String {
    format!("{name}({})", quoted(path))
}

/// Bytes as text in quotes.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(bytes))
}
