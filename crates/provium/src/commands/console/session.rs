//! Connects a command in a guest with the standard streams of this process, until the command ends or the
//! user leaves it.

use super::local::{self, Writer};
use crate::failure::Failure;
use crate::terminal::{self, RawMode};
use provium_lab::{
    AttachedProcess, CommandInput, CommandOutput, CommandTerminal, LabError, RunStatus, WindowSize,
};
use std::convert::Infallible;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// Ctrl-], which leaves the session without the guest, as in `telnet` and `virsh console`.
const LEAVE: u8 = 0x1d;

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SessionEnd {
    /// The command has ended.
    Ended(RunStatus),
    /// The user has left it, or the reader of its output has gone away.
    Left,
}

/// Why a session was cut off.
#[derive(Debug)]
pub(super) enum SessionError {
    /// The guest has ended, or does not answer.
    Guest(LabError),
    /// The host failed.
    Host(Failure),
}

impl From<LabError> for SessionError {
    fn from(error: LabError) -> Self {
        Self::Guest(error)
    }
}

impl From<Failure> for SessionError {
    fn from(failure: Failure) -> Self {
        Self::Host(failure)
    }
}

/// The size of the user's terminal, and its changes.
pub(super) struct Window {
    changes: Signal,
}

impl Window {
    /// From here on changes are noticed.
    pub(super) fn watch() -> Result<Self, Failure> {
        let changes = signal(SignalKind::window_change());
        changes
            .map(|changes| Self { changes })
            .map_err(|source| Failure::Host {
                what: "a signal handler",
                source,
            })
    }

    /// The size now.
    pub(super) fn size(&self) -> WindowSize {
        terminal::input_size().map_or_else(WindowSize::default, |(rows, columns)| WindowSize {
            rows,
            columns,
        })
    }

    /// Passes all changes on to a command's terminal. Never returns.
    async fn pass_on(mut self, to: &CommandTerminal) -> Infallible {
        while self.changes.recv().await.is_some() {
            // A command that has just ended has no terminal any more; its end is noticed elsewhere.
            let _ = to.resize(self.size()).await;
        }
        std::future::pending().await
    }
}

/// Runs a session with pipes.
pub(super) async fn with_pipes(attached: AttachedProcess) -> Result<SessionEnd, SessionError> {
    let streams = Streams::open()?;
    connect(attached, streams, None).await
}

/// Runs a session on the user's terminal, which is in raw mode meanwhile.
pub(super) async fn on_terminal(
    attached: AttachedProcess,
    window: Window,
) -> Result<SessionEnd, SessionError> {
    let streams = Streams::open()?;
    let raw = RawMode::enter().map_err(|source| Failure::Host {
        what: "the terminal's raw mode",
        source,
    })?;
    // The future may be dropped anywhere: the mode is restored with it, and the screen after that.
    let mut screen = Screen { is_whole: false };
    let ended = connect(attached, streams, Some(window)).await;
    drop(raw);
    screen.is_whole = matches!(ended, Ok(SessionEnd::Ended(_)));
    ended
}

/// Resets the user's screen unless the program in the guest came to its own end.
struct Screen {
    is_whole: bool,
}

impl Drop for Screen {
    fn drop(&mut self) {
        if !self.is_whole {
            terminal::reset_screen();
        }
    }
}

/// The streams of this process.
struct Streams {
    input: mpsc::Receiver<Vec<u8>>,
    output: Writer,
    error: Writer,
}

impl Streams {
    fn open() -> Result<Self, Failure> {
        Ok(Self {
            input: local::read_stdin()?,
            output: Writer::stdout()?,
            error: Writer::stderr()?,
        })
    }
}

async fn connect(
    attached: AttachedProcess,
    streams: Streams,
    window: Option<Window>,
) -> Result<SessionEnd, SessionError> {
    let AttachedProcess {
        mut command,
        terminal,
        input,
        output,
        error,
    } = attached;
    let is_terminal = window.is_some();
    let resizing = async {
        match window {
            Some(window) => window.pass_on(&terminal).await,
            None => std::future::pending().await,
        }
    };
    let ending = async {
        let printed = tokio::try_join!(
            copy_out(output, streams.output, "standard output"),
            copy_out(error, streams.error, "standard error"),
        )?;
        match printed {
            (true, true) => Ok::<_, SessionError>(SessionEnd::Ended(command.wait().await?)),
            // As a pipe's reader that goes away ends the writer.
            _ => Ok(SessionEnd::Left),
        }
    };
    tokio::select! {
        biased;
        ended = ending => ended,
        left = copy_in(streams.input, input, is_terminal) => left.map(|()| SessionEnd::Left),
        never = resizing => match never {},
    }
}

/// Passes input on. Returns only when the user leaves.
async fn copy_in(
    mut pieces: mpsc::Receiver<Vec<u8>>,
    input: CommandInput,
    is_terminal: bool,
) -> Result<(), SessionError> {
    while let Some(piece) = pieces.recv().await {
        let leave = piece.iter().position(|byte| is_terminal && *byte == LEAVE);
        if leave.is_some() {
            // What was typed before it may wait for a guest that does not read.
            return Ok(());
        }
        input.write(&piece).await?;
    }
    input.finish();
    // The command reads the end, and ends.
    std::future::pending().await
}

/// Passes output on to its end; false if it is not wanted any more.
async fn copy_out(
    mut from: CommandOutput,
    to: Writer,
    name: &'static str,
) -> Result<bool, SessionError> {
    let mut is_wanted = true;
    let mut ended = Ok(());
    while is_wanted {
        match from.next().await {
            Ok(Some(piece)) => is_wanted = to.write(piece).await,
            Ok(None) => break,
            Err(error) => {
                ended = Err(error);
                break;
            }
        }
    }
    // Also when the guest has died: its last words come before the report of that.
    let written = to.finish().await.map_err(|source| Failure::Output {
        stream: name,
        source,
    })?;
    ended?;
    Ok(written)
}
