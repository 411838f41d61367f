//! Commands: started, captured, fed, signalled, waited for.
//!
//! The channel's reader captures output as it comes, so a command continues whether it is waited for or
//! not, and a slow reader of its output does not delay it.

use crate::call::{Call, Input};
use crate::call_state::CallState;
use crate::capture::{Capture, CaptureReader};
use crate::checkpoint::CommandCheckpoint;
use crate::error::CallError;
use crate::incoming::Sink;
use crate::kind::CallKind;
use crate::lane::LaneHandle;
use provium_protocol::message::Exit;
use provium_protocol::op::{Exec, Signal, SignalTarget, Stdin};
use provium_protocol::{CallId, ErrorKind, Op, WireError};
use std::sync::Arc;

/// Bytes kept of each output stream unless the caller sets another limit.
pub const DEFAULT_MAX_OUTPUT: usize = 64 * 1024 * 1024;
/// Standard input up to this length goes with the request.
const SHORT_INPUT: usize = 32 * 1024;
/// `ESRCH`, of Linux.
const NO_SUCH_PROCESS: i32 = 3;

/// A command in the guest. Dropping it before it has ended kills its process group.
#[derive(Debug)]
pub struct Command {
    lane: LaneHandle,
    call: Call,
    output: Arc<Capture>,
    error: Arc<Capture>,
}

impl Command {
    /// Starts a command, keeping `max_output` bytes of each of its outputs. Standard input of any
    /// length may be given as [`Stdin::Bytes`]; [`Exec::collect`] has no effect here.
    pub fn start(lane: &LaneHandle, mut exec: Exec, max_output: usize) -> Self {
        exec.collect = None;
        let fed = match &mut exec.stdin {
            Stdin::Bytes(bytes) if bytes.len() > SHORT_INPUT => Some(std::mem::take(bytes)),
            _ => None,
        };
        if fed.is_some() {
            exec.stdin = Stdin::Channel;
        }
        let (output, error) = (Capture::new(max_output), Capture::new(max_output));
        let sinks = [
            Sink::Capture(Arc::clone(&output)),
            Sink::Capture(Arc::clone(&error)),
        ];
        let call = lane
            .channel()
            .open_into(lane.lane(), &Op::Exec(exec), sinks);
        if let Some(bytes) = fed {
            let input = call.input();
            // Ends with the call, at the latest.
            call.shared().runtime.spawn(async move {
                if input.write_all(&bytes).await.is_ok() {
                    input.finish();
                }
            });
        }
        Self {
            lane: lane.clone(),
            call,
            output,
            error,
        }
    }

    /// Its process id in the guest, once it runs. For commands with [`Exec::background`]: the start of
    /// another is reported only if it runs for a while.
    ///
    /// # Errors
    /// Why it could not be started, and the end of the session.
    pub async fn started(&self) -> Result<u32, CallError> {
        match self.call.state().started().await {
            Some(pid) => Ok(pid),
            None => {
                // It is over without having been started: the outcome says why.
                self.wait().await?;
                Err(CallError::Unexpected("Exec"))
            }
        }
    }

    /// Waits for its end; may be called any number of times. Dropping the future does not affect the
    /// command.
    ///
    /// # Errors
    /// Why it could not be started, and the end of the session.
    pub async fn wait(&self) -> Result<Exit, CallError> {
        self.call.state().exit().await
    }

    /// Whether it has ended, as far as the host knows.
    pub fn has_ended(&self) -> bool {
        self.call.is_over()
    }

    /// Its process id in the guest, if it is known to have been started.
    pub fn pid(&self) -> Option<u32> {
        self.call.state().pid()
    }

    /// Cancels it without waiting: the guest kills it as soon as it can. The outcome is then that it was
    /// cancelled.
    pub fn abandon(&self) {
        let state = self.call.state();
        self.call.shared().with(|channel| channel.abandon(state));
    }

    /// The call that it runs in.
    pub fn call(&self) -> CallId {
        self.call.id()
    }

    /// What [`Command::reattach`] needs after the guest was restored; `None` if the command has ended. The
    /// channel must be quiesced.
    pub fn checkpoint(&self) -> Option<CommandCheckpoint> {
        let call = self.call.state();
        (!call.is_over()).then(|| CommandCheckpoint {
            call: call.id,
            pid: call.pid(),
            outputs: [self.output.checkpoint(), self.error.checkpoint()],
        })
    }

    /// The command of a checkpoint, on a channel that was resumed from the checkpoint taken with it. Its
    /// output begins with what had been captured then. If the call is not there, it has failed.
    pub fn reattach(lane: &LaneHandle, checkpoint: &CommandCheckpoint) -> Self {
        let outputs = [0, 1].map(|slot| Capture::resumed(&checkpoint.outputs[slot]));
        let [output, error] = outputs.clone();
        let call = lane.channel().reattach(lane.lane(), checkpoint, outputs);
        Self {
            lane: lane.clone(),
            call,
            output,
            error,
        }
    }

    /// Its standard output.
    pub fn output(&self) -> &Arc<Capture> {
        &self.output
    }

    /// Its standard error; empty when it has a terminal.
    pub fn error(&self) -> &Arc<Capture> {
        &self.error
    }

    /// Reads its standard output from the first byte.
    pub fn output_reader(&self) -> CaptureReader {
        self.output.reader()
    }

    /// Reads its standard error from the first byte.
    pub fn error_reader(&self) -> CaptureReader {
        self.error.reader()
    }

    /// Its standard input, when it was started with [`Stdin::Channel`].
    pub fn input(&self) -> Input {
        self.call.input()
    }

    /// Sends a signal to it, or to its whole process group.
    ///
    /// # Errors
    /// `ESRCH` when it has ended.
    pub async fn signal(&self, signal: i32, group: bool) -> Result<(), CallError> {
        let target = if group {
            SignalTarget::Group
        } else {
            SignalTarget::Process
        };
        self.signal_to(signal, target).await
    }

    /// Sends a signal to it, its process group, or all its descendants.
    ///
    /// # Errors
    /// `ESRCH` when it has ended.
    pub async fn signal_to(&self, signal: i32, target: SignalTarget) -> Result<(), CallError> {
        // A command that has ended gave its id back: it must not be named any more.
        if self.call.is_over() {
            return Err(CallError::Remote(WireError {
                kind: ErrorKind::Os,
                errno: NO_SUCH_PROCESS,
                message: "signal".to_owned(),
            }));
        }
        let request = Signal {
            call: self.call.id(),
            signal,
            target,
        };
        self.lane.call(request).await
    }
}

/// A running command of a lane, however it was started. Dropping this does not affect the command.
#[derive(Debug)]
pub struct RunningCommand {
    lane: LaneHandle,
    call: Arc<CallState>,
}

impl RunningCommand {
    /// How it ended, once it has.
    ///
    /// # Errors
    /// Why it could not be started, that it was cancelled, and the end of the session.
    pub async fn wait(&self) -> Result<Exit, CallError> {
        self.call.exit().await
    }

    /// Sends a signal to it and all its descendants. Ended already is fine.
    ///
    /// # Errors
    /// As for every call.
    pub async fn signal(&self, signal: i32) -> Result<(), CallError> {
        if self.call.is_over() {
            return Ok(());
        }
        let request = Signal {
            call: self.call.id,
            signal,
            target: SignalTarget::Tree,
        };
        self.lane.call(request).await
    }
}

impl LaneHandle {
    /// Starts a command, see [`Command::start`].
    pub fn command(&self, exec: Exec, max_output: usize) -> Command {
        Command::start(self, exec, max_output)
    }

    /// The commands of this lane that have not ended and whose handle still exists, oldest first. Those
    /// of batches are not among them.
    pub fn commands_in_flight(&self) -> Vec<RunningCommand> {
        let calls = self
            .channel()
            .shared()
            .with(|channel| channel.calls.of_lane(self.lane()));
        let commands = calls
            .into_iter()
            .filter(|call| matches!(call.kind(), CallKind::Command { .. }) && !call.is_abandoned());
        let in_flight = commands.map(|call| RunningCommand {
            lane: self.clone(),
            call,
        });
        in_flight.collect()
    }

    /// Whether the lane may have commands that [`SignalAll`](provium_protocol::op::SignalAll) means.
    pub fn may_have_background_commands(&self) -> bool {
        let calls = self
            .channel()
            .shared()
            .with(|channel| channel.calls.of_lane(self.lane()));
        calls.iter().any(|call| {
            matches!(
                call.kind(),
                CallKind::Command { background: true } | CallKind::Unknown
            )
        })
    }
}
