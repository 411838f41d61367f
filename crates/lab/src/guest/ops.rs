//! Operations in a guest: commands, files, syscalls, memory, on a VM and on its workers alike.
//!
//! A VM's commands and file operations by path run in processes of their own, its raw syscalls and opened
//! files belong to its raw process. Everything of a worker happens in the worker's own process.

use crate::error::LabError;
use crate::guest::command::{CommandSpec, RunResult, missing_shell, result_of, too_big};
use crate::guest::context::CallContext;
use crate::guest::describe::{describe, quoted, with_path};
use crate::guest::file::{File, OpenMode};
use crate::guest::handles::GuestHandles;
use crate::guest::process::Process;
use crate::guest::stream::{ByteStream, Site};
use crate::guest::syscall::{self, PendingSyscall, SyscallInProgress};
use crate::guest::tail;
use crate::guest::target::Target;
use crate::guest::wait::{WaitOutcome, wait_or_kill};
use crate::guest::worker_state::WorkerState;
use crate::resource::Scope;
use camino::Utf8Path;
use provium_guest::CallError;
use provium_protocol::message::{EntryType, SyscallResult};
use provium_protocol::op::{self, Op, Request, Syscall, TailStart};
use serde_bytes::ByteBuf;
use std::sync::Arc;
use std::time::Duration;

/// Commands, files, syscalls and memory of a VM, or of a worker. Its methods return what the guest answers, or
/// an error that names the VM or worker and the call as the test's author wrote it.
#[derive(Clone, Debug)]
pub struct GuestOps {
    target: Target,
    /// The handles of the VM.
    of_vm: Arc<GuestHandles>,
    /// The handles of the worker.
    of_worker: Option<Arc<GuestHandles>>,
}

/// How a file is written.
#[derive(Debug, Clone, Copy, Default)]
pub struct WriteMode {
    /// Permission bits, set exactly; otherwise those of the old file, or `0o644` less umask.
    pub perm: Option<u32>,
    /// Write at the end of the old content, instead of replacing it.
    pub append: bool,
}

impl GuestOps {
    /// The operations on a VM, whose handles are `handles`.
    pub(crate) fn of_vm(vm: Target, handles: Arc<GuestHandles>) -> Self {
        Self {
            target: vm,
            of_vm: handles,
            of_worker: None,
        }
    }

    /// The operations on a worker of the same VM.
    pub(crate) fn with_worker(&self, worker: Arc<WorkerState>) -> Self {
        Self {
            target: self.target.with_worker(worker),
            of_vm: Arc::clone(&self.of_vm),
            of_worker: Some(Arc::default()),
        }
    }

    /// The VM or worker.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The handles of the worker, or, for a VM, of the VM.
    pub(crate) fn handles(&self) -> &GuestHandles {
        self.of_worker.as_ref().unwrap_or(&self.of_vm)
    }

    /// The process, which was started by these operations or by those that they are a clone of.
    pub(crate) fn adopt_process(&self, process: Process) -> Process {
        self.of_vm.processes.add(&process);
        if let Some(of_worker) = &self.of_worker {
            of_worker.processes.add(&process);
        }
        process
    }

    /// The same for a file.
    pub(crate) fn adopt_file(&self, file: File) -> File {
        self.of_vm.files.add(&file);
        if let Some(of_worker) = &self.of_worker {
            of_worker.files.add(&file);
        }
        file
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
        let context = self.context(format!("run({spec})"))?;
        check_size(&spec, &context)?;
        let command = context.lane.command(spec.request(false), spec.max_output);
        let (exit, timed_out) = match wait_or_kill(&context, &command, timeout).await {
            WaitOutcome::Ended(ended) => (started(&context, &spec, ended).await?, false),
            WaitOutcome::Killed(ended) => (started(&context, &spec, ended).await?, true),
            WaitOutcome::Unkilled(exit) => (exit, true),
            WaitOutcome::Failed(error) => return Err(error),
        };
        let (stdout, stderr) = (command.output().contents(), command.error().contents());
        Ok(result_of(spec.to_string(), exit, timed_out, stdout, stderr))
    }

    /// Starts a command, and returns when it has been started.
    pub async fn run_async(&self, scope: &Scope, spec: CommandSpec) -> Result<Process, LabError> {
        let context = self.context(format!("run_async({spec})"))?;
        check_size(&spec, &context)?;
        let command = context.lane.command(spec.request(true), spec.max_output);
        let pid = started(&context, &spec, command.started().await).await?;
        let process = Process::start(context, scope, &spec, command, pid);
        Ok(self.adopt_process(process))
    }

    /// The file's content.
    pub async fn read_file(&self, path: &[u8]) -> Result<Vec<u8>, LabError> {
        let context = self.context(with_path("read_file", path))?;
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
        let context = self.context(with_path("write_file", path))?;
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
        let context = self.context(format!("push_file(\"{host}\", {})", quoted(guest)))?;
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
        let context = self.context(format!("pull_file({}, \"{host}\")", quoted(guest)))?;
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
    /// What the guest answers; its message has the request as a test writes it.
    pub async fn call<R: Request + Into<Op>>(&self, request: R) -> Result<R::Reply, LabError> {
        let op = request.into();
        let context = self.context(describe(&op))?;
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
        let context = self.context(with_path("open_file", path))?;
        let flags = mode.flags().map_err(|why| context.invalid(why))?;
        let open = op::Open {
            path: path.to_vec(),
            flags,
            perm: mode.perm(),
        };
        let fd = context.request(open).await?;
        let file = File::open(&context.made_now()?, scope, path, fd);
        Ok(self.adopt_file(file))
    }

    /// A file's bytes as they are added to it, from the moment that this returns.
    pub async fn tail_file(
        &self,
        scope: &Scope,
        path: &[u8],
        start: TailStart,
        site: Site,
    ) -> Result<ByteStream, LabError> {
        let context = self.context(with_path("tail_file", path))?;
        let subject = format!("tail of {} of {}", quoted(path), self.target.subject());
        let source = context.lane.tail_file(path, start).await;
        let source = context.explain(source).await?;
        let context = context.made_now()?;
        Ok(tail::open(context, scope, source, subject, site))
    }

    /// The content of a descriptor of the raw process, as a stream.
    pub async fn fd_stream(
        &self,
        scope: &Scope,
        fd: i32,
        site: Site,
    ) -> Result<ByteStream, LabError> {
        let context = self.context(format!("fd_stream({fd})"))?;
        let subject = format!("stream of fd {fd} of {}", self.target.subject());
        let source = context.lane.stream_fd(fd).await;
        let source = context.explain(source).await?;
        let context = context.made_now()?;
        Ok(tail::open(context, scope, source, subject, site))
    }

    /// Makes a raw syscall; the next one waits for it. Messages show it as the author's `call`.
    pub async fn syscall(&self, call: String, request: Syscall) -> Result<SyscallResult, LabError> {
        syscall::syscall(&self.context(call)?, request).await
    }

    /// Begins a raw syscall on a thread of its own; it ends with the scope if not before. Messages show it as
    /// the author's `call`.
    pub async fn syscall_async(
        &self,
        scope: &Scope,
        call: String,
        request: Syscall,
    ) -> Result<PendingSyscall, LabError> {
        let context = self.context(call)?;
        Ok(PendingSyscall::start(context, scope, request).await)
    }

    /// The raw syscalls of the VM and its workers that have not returned, those of
    /// [`GuestOps::syscall_async`] excepted.
    pub fn syscalls_in_progress(&self) -> Vec<SyscallInProgress> {
        syscall::in_progress(&self.target)
    }

    /// Memory of the process that makes the raw syscalls; the inner error is the guest's errno.
    pub async fn read_memory(
        &self,
        address: u64,
        len: u64,
    ) -> Result<Result<Vec<u8>, i32>, LabError> {
        let context = self.context(format!("read_mem({address:#x}, {len})"))?;
        let read = context.lane.call(op::ReadMemory { address, len }).await;
        or_errno(read, &context).await
    }

    /// Puts bytes into that memory; the inner error is the guest's errno.
    pub async fn write_memory(
        &self,
        address: u64,
        data: Vec<u8>,
    ) -> Result<Result<(), i32>, LabError> {
        let context = self.context(format!("write_mem({address:#x}, {} bytes)", data.len()))?;
        let data = ByteBuf::from(data);
        let written = context.lane.call(op::WriteMemory { address, data }).await;
        or_errno(written, &context).await
    }

    fn context(&self, call: String) -> Result<CallContext, LabError> {
        CallContext::new(&self.target, call)
    }
}

/// Refuses a command that no Linux kernel takes, before it is sent: the guest would have to hold it several
/// times over only to refuse it.
pub(crate) fn check_size(spec: &CommandSpec, context: &CallContext) -> Result<(), LabError> {
    match spec.excess() {
        None => Ok(()),
        Some(excess) => Err(too_big(
            context.subject.clone(),
            context.call.clone(),
            excess,
        )),
    }
}

/// The result of starting a command, explained.
pub(crate) async fn started<T>(
    context: &CallContext,
    spec: &CommandSpec,
    result: Result<T, CallError>,
) -> Result<T, LabError> {
    let started = context.explain_start(result).await;
    started.map_err(|error| missing_shell(&spec.exec.program, error))
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
