//! Guests that do not answer: how long calls wait for them, and how the cause is reported.
//!
//! A time limit of a test ends a call whatever the guest does. Ending what the call started needs an
//! answer of the guest, which has a short grace period; after that the call returns and names the cause.

use crate::error::LabError;
use crate::guest::context::CallContext;
use crate::vm::{Vm, VmState};
use provium_protocol::Lane;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long a guest may take to carry out a SIGKILL after a limit has passed.
pub(crate) const KILL_GRACE: Duration = Duration::from_secs(3);

/// How long a guest may take to report the state of a process.
const LOOK: Duration = Duration::from_secs(1);

/// How long an agent may take to answer a ping.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);

/// Why an operation does not complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The harness has stopped the guest's processors.
    Paused,
    /// The agent does not answer a ping either.
    NoAnswer,
    /// A raw syscall of the same process has not returned.
    RawCall { nr: i64, waiting: Duration },
    /// The worker's process is stopped (SIGSTOP, or a tracer).
    Stopped,
    /// The process is in an uninterruptible wait in the kernel.
    Uninterruptible,
    /// The agent answers, but the process does not.
    Process,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused => f.write_str("the VM is paused"),
            Self::NoAnswer => f.write_str(
                "the guest does not answer: its kernel hangs, or something keeps its processors busy",
            ),
            Self::RawCall { nr, waiting } => write!(
                f,
                "raw syscall {nr} has been in progress in this process for {:.1} s, and what needs \
                 the process waits for it",
                waiting.as_secs_f64()
            ),
            Self::Stopped => f.write_str("the worker's process is stopped (SIGSTOP)"),
            Self::Uninterruptible => f.write_str(
                "the process is in an uninterruptible wait in the kernel; it ends when that does",
            ),
            Self::Process => f.write_str(
                "the guest answers, but the process in it that has to carry this out does not: it is \
                 stopped, or waits in the kernel",
            ),
        }
    }
}

/// A raw syscall that has not returned. Its process does nothing else meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawCall {
    /// The owner of its process: ``vm `web` `` or ``worker 17 of vm `web` ``.
    pub owner: String,
    /// Its number, x86-64.
    pub nr: i64,
    /// How long ago it was sent.
    pub waiting: Duration,
}

impl Vm {
    /// The raw syscalls of the VM and its workers that have not returned.
    pub fn raw_calls(&self) -> Vec<RawCall> {
        let calls = self.channel().map(|channel| channel.blocking_calls());
        let calls = calls.into_iter().flatten().map(|(lane, call)| RawCall {
            owner: if lane < Lane::FIRST_WORKER {
                self.subject()
            } else {
                format!("worker {} of {}", lane.0, self.subject())
            },
            nr: call.nr,
            waiting: call.waiting,
        });
        calls.collect()
    }

    /// The state of a process of the guest, as `ps` shows it (`R`, `S`, `D`, `T`, `t`, `Z`), if the guest
    /// reports it within a short time.
    pub(crate) async fn process_state(&self, pid: u32) -> Option<char> {
        let path = format!("/proc/{pid}/stat");
        let surface = self.surface();
        let stat = timeout(LOOK, surface.read_file(path.as_bytes())).await;
        process_state(&stat.ok()?.ok()?)
    }
}

/// The state in a `/proc/PID/stat`: the first field after the name, which may contain any byte.
fn process_state(stat: &[u8]) -> Option<char> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    stat.get(name_end + 2).map(|state| char::from(*state))
}

impl CallContext {
    /// Whether the harness has stopped the guest's processors.
    pub(crate) fn is_paused(&self) -> bool {
        self.surface().vm().state() == VmState::Paused
    }

    /// The error of a call that was abandoned after `after`; determines why it did not complete.
    pub(crate) async fn given_up(&self, after: Duration) -> LabError {
        self.timed_out(after, &self.cause(None).await)
    }

    /// The same, where the cause is known.
    pub(crate) fn timed_out(&self, after: Duration, cause: &Cause) -> LabError {
        LabError::TimedOut {
            subject: self.subject.clone(),
            call: self.call.clone(),
            after,
            note: format!("; {cause}"),
        }
    }

    /// Waits for `work` as long as the guest answers otherwise: for a short grace, and for as much longer
    /// as guests are slower here than hardware would be. `process` is what the work depends on.
    pub(crate) async fn while_answering<T>(
        &self,
        process: Option<u32>,
        work: impl Future<Output = T>,
    ) -> Result<T, LabError> {
        let began = Instant::now();
        let mut work = pin!(work);
        if let Ok(done) = timeout(KILL_GRACE, &mut work).await {
            return Ok(done);
        }
        let cause = self.cause(process).await;
        if !matches!(
            cause,
            Cause::Paused | Cause::NoAnswer | Cause::Uninterruptible
        ) {
            let rest = self.surface().vm().environment().scale_timeout(KILL_GRACE);
            if let Ok(done) = timeout(rest, work).await {
                return Ok(done);
            }
        }
        let whole_seconds = Duration::from_secs(began.elapsed().as_secs());
        Err(self.timed_out(whole_seconds, &cause))
    }

    /// Why a call on this context does not complete.
    async fn cause(&self, process: Option<u32>) -> Cause {
        if self.is_paused() {
            return Cause::Paused;
        }
        let channel = self.lane.channel();
        if !channel.answers_within(SIGN_OF_LIFE).await {
            return if self.is_paused() {
                Cause::Paused
            } else {
                Cause::NoAnswer
            };
        }
        let vm = self.surface().vm();
        if let Some(pid) = process
            && vm.process_state(pid).await == Some('D')
        {
            return Cause::Uninterruptible;
        }
        if let Some(worker) = self.surface().worker()
            && worker.is_stopped(vm).await
        {
            return Cause::Stopped;
        }
        // The agent itself never waits for a raw syscall, but to start a worker it needs the process
        // that makes those of the VM.
        let lane = match self.lane.lane() {
            Lane::AGENT => self.surface().lane(),
            lane => lane,
        };
        match channel.blocking_call(lane) {
            Some(call) => Cause::RawCall {
                nr: call.nr,
                waiting: call.waiting,
            },
            None => Cause::Process,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_process_is_read_whatever_its_name() {
        assert_eq!(process_state(b"12 (provium-exec) T 1 12 12 0"), Some('T'));
        assert_eq!(process_state(b"12 (a) R (b) t 1"), Some('t'));
        assert_eq!(process_state(b"12 (T T) S 1 12"), Some('S'));
        assert_eq!(process_state(b""), None);
    }
}
