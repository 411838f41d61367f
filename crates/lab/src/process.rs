//! Commands that run while the test goes on.
//!
//! Their output is taken in from the first byte, whether anybody reads or not, and kept up to a
//! limit, past which the middle is dropped and the result says so.

use crate::command::{CommandSpec, RunResult, StdinSource, result_of};
use crate::error::LabError;
use crate::scope::{Class, Close, Closing, Membership, ResourceId, Scope};
use crate::stream::{ByteSource, ByteStream, Reading, Site, StreamKind, StreamParts};
use crate::line::Line;
use provium_guest::{CaptureReader, Command, Piece};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a process that is closed has between SIGTERM and SIGKILL.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

/// Which of a command's output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputKind {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Whether a command is still going.
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
    line: Line,
    command: Command,
    timed_out: AtomicBool,
    membership: Mutex<Option<Membership>>,
}

impl Process {
    pub(crate) fn start(line: Line, scope: &Scope, spec: &CommandSpec, command: Command) -> Self {
        let id = ResourceId::next();
        let process = Self(Arc::new(Inner {
            id,
            command_line: spec.to_string(),
            line,
            command,
            timed_out: AtomicBool::new(false),
            membership: Mutex::new(None),
        }));
        if let StdinSource::Bytes(input) = &spec.stdin {
            let (feeder, input) = (process.clone(), input.clone());
            let runtime = process.0.line.surface().vm().environment().runtime();
            // Ends with the command at the latest: its end closes the input.
            runtime.spawn(async move { feeder.0.command.feed(&input).await });
        }
        let membership = scope.register(Class::Process, id, Arc::new(process.clone()));
        *process.0.membership.lock().unwrap_or_else(PoisonError::into_inner) = Some(membership);
        process
    }

    /// Its number, which is its handle, too.
    pub fn id(&self) -> ResourceId {
        self.0.id
    }

    /// Its process id in the guest.
    pub fn pid(&self) -> u32 {
        self.0.command.pid()
    }

    /// What messages call it.
    pub fn subject(&self) -> String {
        format!("process {} ({}) of {}", self.pid(), self.0.command_line, self.0.line.surface().subject())
    }

    /// Whether it still runs.
    pub fn status(&self) -> ProcessStatus {
        if self.0.command.has_ended() { ProcessStatus::Exited } else { ProcessStatus::Running }
    }

    /// Waits for its end. When the time is up, its process group is killed and the result says so.
    /// May be asked again.
    pub async fn wait(&self, timeout: Option<Duration>) -> Result<RunResult, LabError> {
        let command = &self.0.command;
        let ended = match timeout {
            None => command.wait().await,
            Some(limit) => match tokio::time::timeout(limit, command.wait()).await {
                Ok(ended) => ended,
                Err(_) => {
                    self.0.timed_out.store(true, Ordering::Release);
                    // A failure means that it has just ended: the wait tells.
                    let _ = command.signal(SIGKILL, true).await;
                    command.wait().await
                }
            },
        };
        let line = self.0.line.renamed("wait()");
        let exit = line.checked(ended).await?;
        self.leave_scope();
        let timed_out = self.0.timed_out.load(Ordering::Acquire);
        let (stdout, stderr) = (command.stdout().contents(), command.stderr().contents());
        Ok(result_of(self.0.command_line.clone(), exit, timed_out, stdout, stderr))
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
        let line = self.0.line.renamed("stdin_write()");
        let written = self.0.command.write(data).await;
        line.checked(written).await
    }

    /// Ends its standard input. Ended already is fine.
    pub async fn close_stdin(&self) -> Result<(), LabError> {
        let line = self.0.line.renamed("close_stdin()");
        let closed = self.0.command.close_input().await;
        line.checked(closed).await
    }

    /// Its output from the first byte. Any number of streams may read it.
    pub fn stream(&self, scope: &Scope, output: OutputKind, site: Site) -> ByteStream {
        let (name, reader) = match output {
            OutputKind::Stdout => ("stdout", self.0.command.stdout().reader()),
            OutputKind::Stderr => ("stderr", self.0.command.stderr().reader()),
        };
        let line = self.0.line.renamed(&format!("{name}_stream()"));
        let open_count = Some(Arc::clone(&line.surface().vm().0.open_streams));
        let subject = format!("{name} of {}", self.subject());
        let source = Box::new(OutputSource { reader, line });
        ByteStream::open(scope, StreamParts { kind: StreamKind::Tail, subject, site, source, open_count })
    }

    /// Ends it: SIGTERM to its process group, SIGKILL after 2 s. Ended already is fine.
    pub async fn close(&self) -> Result<(), LabError> {
        let command = &self.0.command;
        if !command.has_ended() {
            let _ = command.signal(SIGTERM, true).await;
            if tokio::time::timeout(CLOSE_GRACE, command.wait()).await.is_err() {
                let _ = command.signal(SIGKILL, true).await;
                // Its end comes now, or with the end of the guest: both end this wait.
                let _ = command.wait().await;
            }
        }
        self.leave_scope();
        Ok(())
    }

    async fn send(&self, call: String, signal: i32, group: bool) -> Result<(), LabError> {
        let line = self.0.line.renamed(&call);
        let sent = self.0.command.signal(signal, group).await;
        line.checked(sent).await
    }

    fn leave_scope(&self) {
        let membership = self.0.membership.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(membership) = membership {
            membership.leave();
        }
    }
}

impl Close for Process {
    fn subject(&self) -> String {
        Self::subject(self)
    }

    fn close(&self) -> Closing<'_> {
        Box::pin(Self::close(self))
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Process").field(&self.0.command_line).finish()
    }
}

/// A command's captured output.
struct OutputSource {
    reader: CaptureReader,
    line: Line,
}

impl ByteSource for OutputSource {
    fn read(&mut self) -> Reading<'_> {
        Box::pin(async {
            match self.reader.next().await {
                Ok(None) => Ok(None),
                Ok(Some(Piece::Bytes(bytes))) => Ok(Some(bytes)),
                Ok(Some(Piece::Dropped(count))) => Err(self.line.invalid(format!(
                    "{count} bytes were dropped before this stream came to them; read faster, or \
                     raise `max_output`"
                ))),
                Err(error) => self.line.checked(Err(error)).await,
            }
        })
    }
}
