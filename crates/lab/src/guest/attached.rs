//! A command whose streams are passed on as they come, in both directions, such as a shell on a terminal.
//!
//! Nothing is captured and nothing is dropped: a reader that is slow holds the command up, as a pipe does.
//! It belongs to no scope. Dropping the [`AttachedCommand`] kills the command.

use crate::error::LabError;
use crate::guest::command::{CommandSpec, RunStatus};
use crate::guest::context::CallContext;
use crate::guest::ops::{self, GuestOps};
use provium_guest::{Call, CallError, Input, Output};
use provium_protocol::message::Exit;
use provium_protocol::op::{Op, ResizeTerminal, WindowSize};
use provium_protocol::{CallId, Event, Reply, StreamId};

/// A command that has started, and its end.
pub struct AttachedCommand {
    context: CallContext,
    call: Call,
}

/// The terminal of a command.
pub struct CommandTerminal {
    context: CallContext,
    call: CallId,
}

/// Where a command's input is written.
pub struct CommandInput {
    context: CallContext,
    input: Input,
}

/// One of a command's output streams.
pub struct CommandOutput {
    context: CallContext,
    output: Output,
}

/// A command that has started, with the ends of its streams.
pub struct AttachedProcess {
    /// The command itself.
    pub command: AttachedCommand,
    /// Its terminal, if it has one.
    pub terminal: CommandTerminal,
    /// Its standard input.
    pub input: CommandInput,
    /// Its standard output; with a terminal, everything that is written to that.
    pub output: CommandOutput,
    /// Its standard error; without output if the command has a terminal.
    pub error: CommandOutput,
}

impl AttachedProcess {
    /// Starts a command, and returns when it has started. Its `stdin` must be
    /// [`Channel`](crate::Stdin::Channel); `max_output` has no effect.
    ///
    /// # Errors
    /// As for [`GuestOps::run_async`].
    pub async fn start(guest: &GuestOps, spec: CommandSpec) -> Result<Self, LabError> {
        let context = CallContext::new(guest.target(), format!("attach({spec})"))?;
        ops::check_size(&spec, &context)?;
        let lane = context.lane.lane();
        let request = Op::Exec(spec.request(true));
        let mut call = context.lane.channel().open(lane, &request);
        let (output, error) = (call.output(StreamId::Output), call.output(StreamId::Error));
        let has_started = wait_for_start(&mut call).await;
        ops::started(&context, &spec, has_started).await?;
        Ok(Self {
            terminal: CommandTerminal {
                context: context.clone(),
                call: call.id(),
            },
            input: CommandInput {
                context: context.clone(),
                input: call.input(),
            },
            output: CommandOutput {
                context: context.clone(),
                output,
            },
            error: CommandOutput {
                context: context.clone(),
                output: error,
            },
            command: AttachedCommand { context, call },
        })
    }
}

/// Waits until the command has started.
async fn wait_for_start(call: &mut Call) -> Result<(), CallError> {
    while let Some(event) = call.event().await {
        if matches!(event, Event::Started { .. }) {
            return Ok(());
        }
    }
    // It is over without having been started: the outcome says why.
    call.reply().await?;
    Err(CallError::Unexpected("Exec"))
}

impl AttachedCommand {
    /// Waits for its end. Read its output to the end before, or drop it.
    ///
    /// # Errors
    /// When the guest ends before the command does.
    pub async fn wait(&mut self) -> Result<RunStatus, LabError> {
        let reply = self.call.reply().await;
        match self.context.explain(reply).await? {
            Reply::Exited(Exit {
                signal: Some(signal),
                ..
            }) => Ok(RunStatus::Signalled(signal)),
            Reply::Exited(exit) => Ok(RunStatus::Exited(exit.code.unwrap_or(255))),
            _ => Err(self.context.unexpected("Exec")),
        }
    }
}

impl CommandTerminal {
    /// Sets its size; the processes in its foreground get SIGWINCH.
    ///
    /// # Errors
    /// When the command has ended, or has no terminal.
    pub async fn resize(&self, window: WindowSize) -> Result<(), LabError> {
        let resize = ResizeTerminal {
            call: self.call,
            window,
        };
        self.context.request(resize).await
    }
}

impl CommandInput {
    /// Writes `bytes`, as fast as the command reads. What a command that has closed its input, or has
    /// ended, does not read is discarded.
    ///
    /// # Errors
    /// When the guest ends.
    pub async fn write(&self, bytes: &[u8]) -> Result<(), LabError> {
        match self.input.write_all(bytes).await {
            Err(CallError::InputClosed) => Ok(()),
            written => self.context.explain(written).await,
        }
    }

    /// Ends it, after what was written.
    pub fn finish(&self) {
        self.input.finish();
    }
}

impl CommandOutput {
    /// The next bytes, at least one; `None` at the end. Dropping the future loses nothing.
    ///
    /// # Errors
    /// When the guest ends, after everything that it had sent.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, LabError> {
        let piece = self.output.next().await;
        self.context.explain(piece).await
    }
}
