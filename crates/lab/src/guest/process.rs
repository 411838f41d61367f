//! Commands that run in the background of a test.
//!
//! Their output is captured from the first byte, whether it is read or not, and kept up to a limit. If
//! there is more, the middle is dropped, and the result says so.

use crate::error::LabError;
use crate::guest::command::{CommandSpec, RunResult, RunStatus, result_of};
use crate::guest::context::CallContext;
use crate::guest::kill::end_all;
use crate::guest::stream::{ByteSource, ByteStream, ReadFuture, Site, StreamKind, StreamParts};
use crate::guest::target::Target;
use crate::guest::wait::{WaitOutcome, wait_or_kill};
use crate::lock::lock;
use crate::resource::{Close, CloseFuture, CloseOrder, GuestKey, Registration, ResourceId, Scope};
use futures_util::FutureExt as _;
use provium_guest::{CallError, CaptureReader, Channel, Command, CommandCheckpoint, Piece};
use provium_protocol::Lane;
use provium_protocol::message::Exit;
use provium_protocol::op::Stdin;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

/// Which of a command's output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputKind {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Whether a command still runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessStatus {
    /// It runs.
    Running,
    /// It has ended.
    Exited,
}

/// A command in a guest.
#[derive(Clone)]
pub struct Process(Arc<Inner>);

struct Inner {
    id: ResourceId,
    command_line: String,
    context: CallContext,
    /// Another one once the VM was restored to a snapshot.
    command: Mutex<Arc<Command>>,
    pid: u32,
    has_input: bool,
    timed_out: AtomicBool,
    place: Registration,
}

impl Process {
    pub(crate) fn start(
        context: CallContext,
        scope: &Scope,
        spec: &CommandSpec,
        command: Command,
        pid: u32,
    ) -> Self {
        let id = ResourceId::next();
        let process = Self(Arc::new(Inner {
            id,
            command_line: spec.to_string(),
            context,
            command: Mutex::new(Arc::new(command)),
            pid,
            has_input: matches!(spec.exec.stdin, Stdin::Channel),
            timed_out: AtomicBool::new(false),
            place: Registration::default(),
        }));
        process
            .0
            .place
            .take(scope, (CloseOrder::Process, id), Arc::new(process.clone()));
        process
    }

    /// The same process in a clone of its VM; until that is restored, with what is known of it here.
    pub(crate) fn rebind(&self, target: Target) -> Self {
        Self(Arc::new(Inner {
            id: self.id(),
            command_line: self.0.command_line.clone(),
            context: self.0.context.rebind(target),
            command: Mutex::new(self.command()),
            pid: self.pid(),
            has_input: self.0.has_input,
            timed_out: AtomicBool::new(self.0.timed_out.load(Ordering::Acquire)),
            place: Registration::default(),
        }))
    }

    /// The VM or worker that started it.
    pub(crate) fn target(&self) -> &Target {
        &self.0.context.target
    }

    /// The number of the resource, which its clones have, too.
    pub fn id(&self) -> ResourceId {
        self.0.id
    }

    /// Its process id in the guest.
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// Its name in messages.
    pub fn subject(&self) -> String {
        format!(
            "process {} ({}) of {}",
            self.pid(),
            self.0.command_line,
            self.target().subject()
        )
    }

    /// Whether it may still run: its end has not been reported, and its guest is there.
    pub fn is_running(&self) -> bool {
        !self.command().has_ended()
    }

    /// Whether it runs or has ended.
    ///
    /// # Errors
    /// When its end cannot be known any more: its VM is off, was reset, or was restored to a state without it.
    pub async fn status(&self) -> Result<ProcessStatus, LabError> {
        match self.command().wait().now_or_never() {
            None => Ok(ProcessStatus::Running),
            Some(Ok(_)) => Ok(ProcessStatus::Exited),
            Some(Err(error)) => {
                let context = self.context("status()").validate("the process")?;
                match error.channel() {
                    Some(_) => context.explain(Err(error)).await,
                    // It was closed, and killed, without waiting for its end.
                    None => Ok(ProcessStatus::Exited),
                }
            }
        }
    }

    /// How it ended, without waiting. `None` while it runs, and if its end cannot be known any more, as after
    /// the end of its VM.
    pub fn ending(&self) -> Option<RunStatus> {
        let command = self.command();
        let exit = command.wait().now_or_never()?.ok()?;
        let timed_out = self.0.timed_out.load(Ordering::Acquire);
        Some(self.result(&command, exit, timed_out).status)
    }

    /// What it has written so far, on standard output and on standard error.
    pub fn output_so_far(&self) -> [Vec<u8>; 2] {
        let command = self.command();
        [command.output(), command.error()].map(|output| output.contents().bytes)
    }

    /// Waits for its end. When the time is up, its process group is killed and the result has that status, also
    /// when the guest does not report the end any more. May be called again.
    ///
    /// # Errors
    /// Besides what the guest answers: that the VM is paused when the time is up, as nothing can be
    /// killed then.
    pub async fn wait(&self, timeout: Option<Duration>) -> Result<RunResult, LabError> {
        let command = self.command();
        let context = self.context("wait()");
        let waited = wait_or_kill(&context, &command, timeout).await;
        let exit = match waited {
            WaitOutcome::Ended(ended) => ended,
            WaitOutcome::Killed(ended) => {
                self.0.timed_out.store(true, Ordering::Release);
                ended
            }
            WaitOutcome::Unkilled(exit) => return Ok(self.result(&command, exit, true)),
            WaitOutcome::Failed(error) => return Err(error),
        };
        let exit = match exit {
            Ok(exit) => exit,
            Err(error) => {
                let context = context.validate("the process")?;
                context.explain(Err(error)).await?
            }
        };
        self.0.place.leave();
        let timed_out = self.0.timed_out.load(Ordering::Acquire);
        Ok(self.result(&command, exit, timed_out))
    }

    fn result(&self, command: &Command, exit: Exit, timed_out: bool) -> RunResult {
        let (stdout, stderr) = (command.output().contents(), command.error().contents());
        let command_line = self.0.command_line.clone();
        result_of(command_line, exit, timed_out, stdout, stderr)
    }

    /// Signals its process group.
    pub async fn kill(&self, signal: i32) -> Result<(), LabError> {
        self.send(format!("kill({signal})"), signal, true).await
    }

    /// Signals the process alone.
    pub async fn signal(&self, signal: i32) -> Result<(), LabError> {
        self.send(format!("signal({signal})"), signal, false).await
    }

    /// Writes to its standard input; the number of bytes.
    pub async fn stdin_write(&self, data: &[u8]) -> Result<u64, LabError> {
        let context = self.context("stdin_write()").validate("the process")?;
        if !self.0.has_input {
            return Err(context.invalid("its standard input was given with `stdin`"));
        }
        let command = self.command();
        match command.input().write_all(data).await {
            Err(CallError::InputClosed) if command.has_ended() => {
                return Err(context.invalid("the process has exited"));
            }
            Err(CallError::InputClosed) => {
                return Err(context.invalid("its standard input is closed"));
            }
            written => context.explain(written).await?,
        }
        Ok(data.len() as u64)
    }

    /// Ends its standard input. Ended already is fine.
    pub fn close_stdin(&self) {
        self.command().input().finish();
    }

    /// Its output from the first byte. Any number of streams may read it.
    pub fn stream(&self, scope: &Scope, output: OutputKind, site: Site) -> ByteStream {
        let (name, reader) = match output {
            OutputKind::Stdout => ("stdout", self.command().output_reader()),
            OutputKind::Stderr => ("stderr", self.command().error_reader()),
        };
        let context = self.context(&format!("{name}_stream()"));
        // What it had printed is there also when its guest is not.
        let valid = context.validate("the process");
        let is_in_guest = valid.is_ok();
        let context = valid.unwrap_or(context);
        let open = Arc::clone(context.target.vm().open_streams());
        let subject = format!("{name} of {}", self.subject());
        let source = Box::new(OutputSource { reader, context });
        let stream = ByteStream::open(
            scope,
            StreamParts {
                kind: StreamKind::Tail,
                subject,
                site,
                source,
                open,
            },
        );
        if !is_in_guest {
            stream.leave_guest();
        }
        if let Some(worker) = self.target().worker() {
            worker.adopt_output(&stream);
        }
        stream
    }

    /// Ends it: SIGTERM to its process group, SIGKILL after 2 s. Ended already is fine.
    ///
    /// # Errors
    /// When the guest does not carry that out in time. The process is killed then as soon as the guest
    /// can.
    pub async fn close(&self) -> Result<(), LabError> {
        let command = self.command();
        let context = self.context("close()");
        let closed = if command.has_ended() {
            Ok(())
        } else if context.target.vm().is_paused() {
            command.abandon();
            Err(context.invalid("the VM is paused; the process is killed once it is resumed"))
        } else if end_all(&[&*command]).await {
            Ok(())
        } else {
            let ended = context.while_answering(command.pid(), command.wait()).await;
            command.abandon();
            ended.map(drop)
        };
        self.0.place.leave();
        closed
    }

    async fn send(&self, call: String, signal: i32, group: bool) -> Result<(), LabError> {
        let context = self.context(&call).validate("the process")?;
        let sent = self.command().signal(signal, group).await;
        context.explain(sent).await
    }

    fn command(&self) -> Arc<Command> {
        Arc::clone(&lock(&self.0.command))
    }

    fn context(&self, call: &str) -> CallContext {
        self.0.context.with_subject(self.subject(), call)
    }
}

/// The processes of a VM or of a worker that have a handle.
#[derive(Debug, Default)]
pub(crate) struct Processes(Mutex<Vec<Weak<Inner>>>);

/// A process at a moment that its VM can be restored to.
#[derive(Debug, Clone)]
pub(crate) struct ProcessMark {
    id: ResourceId,
    lane: Lane,
    command: CommandCheckpoint,
}

impl Processes {
    pub(crate) fn add(&self, process: &Process) {
        let mut held = lock(&self.0);
        held.retain(|process| process.strong_count() > 0);
        held.push(Arc::downgrade(&process.0));
    }

    /// Those that exist: owned by a scope until they are waited for or closed, and as long as there is a
    /// handle.
    pub(crate) fn held(&self) -> Vec<Process> {
        let held = lock(&self.0);
        held.iter().filter_map(Weak::upgrade).map(Process).collect()
    }

    /// Those that run now; the guest must be quiet.
    pub(crate) fn marks(&self) -> Vec<ProcessMark> {
        let held = lock(&self.0).clone();
        let marks = held.into_iter().filter_map(|held| {
            let process = held.upgrade()?;
            let command = Arc::clone(&lock(&process.command)).checkpoint()?;
            Some(ProcessMark {
                id: process.id,
                lane: process.context.lane.lane(),
                command,
            })
        });
        marks.collect()
    }
}

/// A handle's process in a restored guest, before the VM runs that guest.
pub(crate) struct ReattachedProcess {
    process: Process,
    command: Arc<Command>,
}

impl ProcessMark {
    /// The process in a guest that was restored to that moment, reached by `channel`, if
    /// the VM has a handle of it among `processes`.
    pub(crate) fn reattach(
        &self,
        processes: &Processes,
        channel: &Channel,
    ) -> Option<ReattachedProcess> {
        let mut held = processes.held().into_iter();
        let process = held.find(|process| process.id() == self.id)?;
        let command = Command::reattach(&channel.lane(self.lane), &self.command);
        Some(ReattachedProcess {
            process,
            command: Arc::new(command),
        })
    }
}

impl ReattachedProcess {
    /// From here on the handle is of that process.
    pub(crate) fn commit(self) {
        let Self { process, command } = self;
        let before = std::mem::replace(&mut *lock(&process.0.command), command);
        process.0.timed_out.store(false, Ordering::Release);
        drop(before);
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.command_line)
    }
}

impl Close for Process {
    fn subject(&self) -> String {
        Self::subject(self)
    }

    fn close(&self) -> CloseFuture<'_> {
        Box::pin(Self::close(self))
    }

    fn guest(&self) -> Option<GuestKey> {
        Some(self.target().vm().key())
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Process")
            .field(&self.0.command_line)
            .finish()
    }
}

/// A command's captured output.
struct OutputSource {
    reader: CaptureReader,
    context: CallContext,
}

impl ByteSource for OutputSource {
    fn read(&mut self) -> ReadFuture<'_> {
        Box::pin(async {
            match self.reader.next().await {
                Ok(None) => Ok(None),
                Ok(Some(Piece::Bytes(bytes))) => Ok(Some(bytes)),
                Ok(Some(Piece::Dropped(count))) => Err(self.context.invalid(format!(
                    "{count} bytes were dropped before this stream reached them; read faster, or \
                     raise `max_output`"
                ))),
                Err(error) => self.context.explain(Err(error)).await,
            }
        })
    }
}
