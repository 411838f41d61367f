//! What a VM and a worker share: commands, files, syscalls, memory.
//!
//! A VM's commands and file operations by path run in the guest's *commands* process, its raw
//! syscalls and opened files belong to its *raw* process. Everything of a worker happens in the
//! worker's own process.

use crate::error::LabError;
use crate::graph::clone::LabClone;
use crate::guest::command::{CommandSpec, RunResult, exec_of, missing_shell, result_of};
use crate::guest::context::CallContext;
use crate::guest::describe::{describe, quoted, with_path};
use crate::guest::ending::{Waited, wait_or_kill};
use crate::guest::file::{File, OpenMode};
use crate::guest::process::Process;
use crate::guest::raw::PendingSyscall;
use crate::guest::stream::{ByteStream, Site};
use crate::guest::tail;
use crate::guest::worker::WorkerSeat;
use crate::resource::Scope;
use crate::vm::Vm;
use camino::Utf8Path;
use provium_guest::CallError;
use provium_protocol::Lane;
use provium_protocol::message::{EntryType, SyscallResult};
use provium_protocol::op::{self, Op, Request, Syscall, TailStart};
use serde_bytes::ByteBuf;
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
        let context = self.commands(format!("run({spec})"))?;
        spec.check_size(&context)?;
        let command = context.lane.command(exec_of(&spec, false), spec.max_output);
        let (exit, timed_out) = match wait_or_kill(&context, &command, timeout).await {
            Waited::Ended(ended) => (self.started(&context, &spec, ended).await?, false),
            Waited::Killed(ended) => (self.started(&context, &spec, ended).await?, true),
            Waited::Unkilled(exit) => (exit, true),
            Waited::Failed(error) => return Err(error),
        };
        let (stdout, stderr) = (command.output().contents(), command.error().contents());
        Ok(result_of(spec.to_string(), exit, timed_out, stdout, stderr))
    }

    /// Starts a command, and returns when it has been started.
    pub async fn run_async(&self, scope: &Scope, spec: CommandSpec) -> Result<Process, LabError> {
        let context = self.commands(format!("run_async({spec})"))?;
        spec.check_size(&context)?;
        let command = context.lane.command(exec_of(&spec, true), spec.max_output);
        let started = command.started().await;
        let pid = self.started(&context, &spec, started).await?;
        Ok(Process::start(context, scope, &spec, command, pid))
    }

    /// What starting a command came to, explained.
    async fn started<T>(
        &self,
        context: &CallContext,
        spec: &CommandSpec,
        result: Result<T, CallError>,
    ) -> Result<T, LabError> {
        let started = context.explain_start(result).await;
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
    pub(crate) fn in_copy(&self, copy: &LabClone) -> Self {
        let worker = self.worker.as_ref();
        Self {
            vm: copy.vm(&self.vm),
            worker: worker.map(|seat| copy.seat(seat)),
        }
    }

    /// The file's content.
    pub async fn read_file(&self, path: &[u8]) -> Result<Vec<u8>, LabError> {
        let context = self.commands(with_path("read_file", path))?;
        let content = context.lane.read_file(path).await;
        context.explain(content).await
    }

    /// Creates the file, or replaces its content; the number of bytes written.
    pub async fn write_file(
        &self,
        path: &[u8],
        content: &[u8],
        mode: WriteMode,
    ) -> Result<u64, LabError> {
        let context = self.commands(with_path("write_file", path))?;
        let written = context
            .lane
            .write_file(path, content, mode.perm, mode.append)
            .await;
        context.explain(written).await
    }

    /// Copies a file of the host into the guest, with its permission bits unless `perm` is given.
    pub async fn push_file(
        &self,
        host: &Utf8Path,
        guest: &[u8],
        perm: Option<u32>,
    ) -> Result<u64, LabError> {
        let context = self.commands(format!("push_file(\"{host}\", {})", quoted(guest)))?;
        let opened = tokio::fs::File::open(host).await;
        let mut file = opened.map_err(|error| context.host_file(host, &error))?;
        let metadata = file
            .metadata()
            .await
            .map_err(|error| context.host_file(host, &error))?;
        if metadata.is_dir() {
            let folder = std::io::Error::from(std::io::ErrorKind::IsADirectory);
            return Err(context.host_file(host, &folder));
        }
        let perm = perm
            .unwrap_or(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7777);
        let written = context
            .lane
            .write_file_from(guest, &mut file, Some(perm), false)
            .await;
        context.explain(written).await
    }

    /// Copies a file of the guest to the host; the number of bytes.
    pub async fn pull_file(&self, guest: &[u8], host: &Utf8Path) -> Result<u64, LabError> {
        let context = self.commands(format!("pull_file({}, \"{host}\")", quoted(guest)))?;
        // Before the host's file loses its content.
        let path = guest.to_vec();
        if context.request(op::Stat { path }).await?.entry_type == EntryType::Dir {
            return Err(context.invalid(format!("{} is a folder of the guest", quoted(guest))));
        }
        let created = tokio::fs::File::create(host).await;
        let mut file = created.map_err(|error| context.host_file(host, &error))?;
        let read = context.lane.read_file_to(guest, &mut file).await;
        context.explain(read).await
    }

    /// Makes a request by path, or any other that answers at once.
    ///
    /// # Errors
    /// What the guest answers, named after the call of a test that makes the request.
    pub async fn call<R: Request + Into<Op>>(&self, request: R) -> Result<R::Reply, LabError> {
        let op = request.into();
        let context = self.commands(describe(&op))?;
        let reply = context.lane.call_op::<R>(&op).await;
        context.explain(reply).await
    }

    /// Opens a file.
    pub async fn open_file(
        &self,
        scope: &Scope,
        path: &[u8],
        mode: OpenMode,
    ) -> Result<File, LabError> {
        let context = self.raw(with_path("open_file", path))?;
        let flags = mode.flags().map_err(|why| context.invalid(why))?;
        let open = op::Open {
            path: path.to_vec(),
            flags,
            perm: mode.perm(),
        };
        let fd = context.request(open).await?;
        Ok(File::open(&context.made_now()?, scope, path, fd))
    }

    /// A file's bytes as they are added to it.
    pub async fn tail_file(
        &self,
        scope: &Scope,
        path: &[u8],
        start: TailStart,
        site: Site,
    ) -> Result<ByteStream, LabError> {
        let context = self.commands(with_path("tail_file", path))?;
        let subject = format!("tail of {} of {}", quoted(path), self.subject());
        let source = context.lane.tail_file(path, start);
        Ok(tail::open(context, scope, source, subject, site))
    }

    /// What a descriptor of the raw process gives up.
    pub async fn fd_stream(
        &self,
        scope: &Scope,
        fd: i32,
        site: Site,
    ) -> Result<ByteStream, LabError> {
        let context = self.raw(format!("fd_stream({fd})"))?;
        let subject = format!("stream of fd {fd} of {}", self.subject());
        let source = context.lane.stream_fd(fd);
        Ok(tail::open(context, scope, source, subject, site))
    }

    /// A raw syscall; the next one waits for it. Messages show it as the author's `call`.
    pub async fn syscall(&self, call: String, syscall: Syscall) -> Result<SyscallResult, LabError> {
        let context = self.raw(call)?;
        let made = context
            .lane
            .syscall(Syscall {
                background: false,
                ..syscall
            })
            .await;
        context.explain(made).await
    }

    /// A raw syscall on a thread of its own; it ends with the scope at the latest. Messages show it as the author's `call`.
    pub async fn syscall_async(
        &self,
        scope: &Scope,
        call: String,
        syscall: Syscall,
    ) -> Result<PendingSyscall, LabError> {
        let context = self.raw(call)?;
        Ok(PendingSyscall::start(context, scope, syscall).await)
    }

    /// Memory of the process that makes the raw syscalls; the inner error is the guest's errno.
    pub async fn read_memory(
        &self,
        address: u64,
        len: u64,
    ) -> Result<Result<Vec<u8>, i32>, LabError> {
        let context = self.raw(format!("read_mem({address:#x}, {len})"))?;
        let read = context.lane.call(op::ReadMemory { address, len }).await;
        or_errno(read, &context).await
    }

    /// Puts bytes into that memory; the inner error is the guest's errno.
    pub async fn write_memory(
        &self,
        address: u64,
        data: Vec<u8>,
    ) -> Result<Result<(), i32>, LabError> {
        let context = self.raw(format!("write_mem({address:#x}, {} bytes)", data.len()))?;
        let data = ByteBuf::from(data);
        let written = context.lane.call(op::WriteMemory { address, data }).await;
        or_errno(written, &context).await
    }

    /// Its lane.
    pub(crate) fn lane(&self) -> Lane {
        self.worker.as_ref().map_or(Lane::VM, |worker| worker.lane)
    }

    pub(crate) fn commands(&self, call: String) -> Result<CallContext, LabError> {
        self.context(call, self.lane())
    }

    /// The agent itself.
    pub(crate) fn agent(&self, call: String) -> Result<CallContext, LabError> {
        self.context(call, Lane::AGENT)
    }

    pub(crate) fn raw(&self, call: String) -> Result<CallContext, LabError> {
        self.context(call, self.lane())
    }

    fn context(&self, call: String, lane: Lane) -> Result<CallContext, LabError> {
        if let Some(worker) = &self.worker {
            worker.check(&self.vm, &self.subject(), &call)?;
        }
        let session = self.vm.session(&call)?;
        let of_worker = self.worker.as_ref().map(|worker| worker.mark);
        let context = CallContext {
            surface: self.clone(),
            subject: self.subject(),
            lane: session.lane(lane),
            mark: of_worker.unwrap_or(session.mark),
            begun: session.mark,
            machine: session.running.number,
            call,
        };
        context.check_epoch("the worker")?;
        Ok(context)
    }
}

/// The guest's errno as a value, all else as an error.
async fn or_errno<T>(
    result: Result<T, CallError>,
    context: &CallContext,
) -> Result<Result<T, i32>, LabError> {
    match result {
        Err(error) if error.errno().is_some() => Ok(Err(error.errno().unwrap_or_default())),
        result => context.explain(result).await.map(Ok),
    }
}
