//! How the harness waits for a guest, what bounds a wait, and how a missing answer is explained.
//!
//! | what is awaited | bounded by | if it does not come |
//! |---|---|---|
//! | an agent that boots, or is restored | a limit, and the life of the guest: [`GuestWait`] | a [`WaitError`]: it ended, reset, or is late |
//! | the reply to a request | the caller, who drops the future | |
//! | the same, when the guest dies or reboots, or its VM is restored | the session, which ends all calls | [`CallContext::explain`] |
//! | the end of a command | the time limit of the test | the command is killed: [`wait_or_kill`] |
//! | the end of what was killed or closed | [`KILL_GRACE`], longer if the guest answers otherwise | [`CallContext::timed_out`] names the [`Cause`] |
//!
//! A time limit of a test ends a call whatever the guest does. Ending what the call started needs an
//! answer of the guest, which has a short grace period; after that the call returns and names the cause.

use crate::error::{LabError, chain};
use crate::guest::context::CallContext;
use crate::guest::target::Target;
use provium_guest::{CallError, ChannelError, Command};
use provium_protocol::Lane;
use provium_protocol::message::{ErrorKind, Exit, WireError};
use provium_protocol::op::{Op, Request, SignalTarget};
use provium_vmm::{FailureHint, Machine};
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// How long a guest may take to carry out a SIGKILL after a limit has passed.
pub(crate) const KILL_GRACE: Duration = Duration::from_secs(3);

/// How long a guest may take to report the state of a process.
const PROCESS_STATE_LIMIT: Duration = Duration::from_secs(1);

/// How long an agent may take to answer a ping.
const PING_LIMIT: Duration = Duration::from_secs(2);

/// How long QEMU may take to report the end of a guest, after its console or channel suggests that.
const EXIT_REASON_LIMIT: Duration = Duration::from_secs(1);

/// How long QEMU may take to report what its vCPUs do.
const PROCESSORS_LIMIT: Duration = Duration::from_secs(2);

const SIGKILL: i32 = 9;

/// A wait for the agent of a machine, which ends with the guest.
pub(crate) struct GuestWait<'a> {
    machine: &'a Machine,
    limit: Duration,
    /// How often the guest had reset the machine when the boot began that is awaited.
    reboots: u64,
}

/// Why an agent did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WaitError {
    /// The guest has ended, in this way.
    #[error("the guest ended: {0}")]
    Ended(String),
    /// The guest reset the machine instead.
    #[error("the guest reset the machine before its agent answered")]
    Reset,
    /// The limit has passed. What its vCPUs did then.
    #[error("the agent did not answer in time; {0}")]
    TimedOut(String),
}

/// Why a request to an agent failed.
pub(crate) enum RequestError<E> {
    /// It was not answered.
    NoReply(WaitError),
    /// The agent refused, or the channel ended while the guest lives.
    Failed(E),
}

/// An error that may be the end of the agent's channel.
pub(crate) trait ChannelFailure {
    /// Whether it is one.
    fn is_end_of_channel(&self) -> bool;
}

impl ChannelFailure for ChannelError {
    fn is_end_of_channel(&self) -> bool {
        true
    }
}

impl ChannelFailure for CallError {
    fn is_end_of_channel(&self) -> bool {
        self.channel().is_some()
    }
}

impl<'a> GuestWait<'a> {
    /// For a guest that runs now: a reset ends the wait.
    pub(crate) fn new(machine: &'a Machine, limit: Duration) -> Self {
        Self {
            reboots: *machine.reboots().borrow(),
            machine,
            limit,
        }
    }

    /// For the first boot of a machine, which may have reset already.
    pub(crate) fn of_first_boot(machine: &'a Machine, limit: Duration) -> Self {
        Self {
            reboots: 0,
            machine,
            limit,
        }
    }

    /// Waits for `answer`, at most for the limit, and no longer than the guest lives and does not reset.
    pub(crate) async fn until<T>(&self, answer: impl Future<Output = T>) -> Result<T, WaitError> {
        let mut answer = pin!(answer);
        let mut ended = self.machine.ended();
        let mut resets = self.machine.reboots();
        let hint = tokio::select! {
            biased;
            answered = &mut answer => return Ok(answered),
            () = async { drop(ended.wait_for(Option::is_some).await) } => {
                return Err(WaitError::Ended(watched_text(&ended, "QEMU ended")));
            }
            () = reset_after(&mut resets, self.reboots) => return Err(WaitError::Reset),
            hint = self.machine.failure_hint() => hint,
            () = tokio::time::sleep(self.limit) => return Err(self.timed_out().await),
        };
        tokio::select! {
            biased;
            answered = answer => Ok(answered),
            reason = exit_reason(self.machine, &hint) => Err(WaitError::Ended(reason)),
        }
    }

    /// The error for an answer that is late. A guest that spins, and one that waits for an interrupt, differ in
    /// what their vCPUs do.
    async fn timed_out(&self) -> WaitError {
        WaitError::TimedOut(describe_processors(self.machine).await)
    }

    /// Waits for the reply to a request, as [`GuestWait::until`]. The channel ends when QEMU does, and may do
    /// so first: the end of the guest is then what is reported.
    pub(crate) async fn reply<T, E: ChannelFailure>(
        &self,
        reply: impl Future<Output = Result<T, E>>,
    ) -> Result<T, RequestError<E>> {
        match self.until(reply).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) if error.is_end_of_channel() => match machine_end(self.machine).await {
                Some(end) => Err(RequestError::NoReply(WaitError::Ended(end))),
                None => Err(RequestError::Failed(error)),
            },
            Ok(Err(error)) => Err(RequestError::Failed(error)),
            Err(no_reply) => Err(RequestError::NoReply(no_reply)),
        }
    }
}

/// Waits until the guest has reset the machine more often than `reboots` times.
async fn reset_after(resets: &mut watch::Receiver<u64>, reboots: u64) {
    if resets.wait_for(|count| *count > reboots).await.is_err() {
        // The machine is gone: its end is waited for as well.
        std::future::pending::<()>().await;
    }
}

/// The end of a guest whose console suggests that it has ended: what QEMU reports, which is more precise, if it
/// comes soon. Meanwhile the rest of the console arrives, too.
pub(crate) async fn exit_reason(machine: &Machine, hint: &FailureHint) -> String {
    match machine_end(machine).await {
        Some(end) => end,
        None => hint.to_string(),
    }
}

/// How the machine ended, if it has or does so soon.
pub(crate) async fn machine_end(machine: &Machine) -> Option<String> {
    let mut ended = machine.ended();
    let end = timeout(EXIT_REASON_LIMIT, ended.wait_for(Option::is_some)).await;
    let has_ended = matches!(end, Ok(Ok(_)));
    drop(end);
    has_ended.then(|| watched_text(&ended, "QEMU ended"))
}

/// What the vCPUs of a machine do, and how much processor time it has used, for an error.
async fn describe_processors(machine: &Machine) -> String {
    let states = match timeout(PROCESSORS_LIMIT, machine.processors()).await {
        Ok(Ok(states)) => {
            let states = states.iter().enumerate();
            let states = states.map(|(number, state)| format!("vCPU {number} is {state}"));
            states.collect::<Vec<_>>().join(", ")
        }
        Ok(Err(error)) => chain(&error),
        Err(_) => format!("QEMU has not reported its vCPUs within {PROCESSORS_LIMIT:?}"),
    };
    match machine.usage() {
        Ok(usage) => {
            let used = usage.cpu_time.as_secs_f64();
            format!("{states}; QEMU has used {used:.1} s of processor time")
        }
        Err(_) => states,
    }
}

/// The value of a watch as text.
pub(crate) fn watched_text<T: ToString>(
    watch: &watch::Receiver<Option<T>>,
    otherwise: &str,
) -> String {
    let value = watch.borrow();
    value
        .as_ref()
        .map_or_else(|| otherwise.to_owned(), ToString::to_string)
}

impl CallContext {
    /// Makes a request, and explains its failure.
    pub(crate) async fn request<R: Request + Into<Op>>(
        &self,
        request: R,
    ) -> Result<R::Reply, LabError> {
        let reply = self.lane.call(request).await;
        self.explain(reply).await
    }

    /// The result of a request as the test gets it: its reply, what the guest refused, or why no reply came: the
    /// guest died, rebooted or was shut down, or its VM was restored.
    pub(crate) async fn explain<T>(&self, result: Result<T, CallError>) -> Result<T, LabError> {
        match result {
            Ok(value) => Ok(value),
            Err(CallError::Remote(error)) => Err(self.remote(error)),
            Err(error) if matches!(error.channel(), Some(ChannelError::Rebooted)) => {
                let why = "the guest was rebooted or reset meanwhile";
                Err(LabError::gone(self.subject.clone(), &self.call, why))
            }
            Err(_) if self.is_on_other_machine() => {
                let why = format!("the VM was {} meanwhile", self.target.last_change());
                Err(LabError::gone(self.subject.clone(), &self.call, why))
            }
            Err(error) => {
                let ended = error.channel().is_some();
                let error = LabError::host(self.subject.clone(), &self.call, error);
                if !ended {
                    return Err(error);
                }
                // The channel may close before the cause is known: the VM's end explains more.
                let explained = self.target.vm().explain(&self.call, error).await;
                Err(explained.of_subject(&self.subject))
            }
        }
    }

    /// As [`CallContext::explain`], of a command or worker: its working directory or user may be what is
    /// missing.
    pub(crate) async fn explain_start<T>(
        &self,
        result: Result<T, CallError>,
    ) -> Result<T, LabError> {
        let tried = match &result {
            Err(CallError::Remote(error)) if !error.message.starts_with("exec ") => {
                Some(error.message.clone())
            }
            _ => None,
        };
        let mut checked = self.explain(result).await;
        if let (Err(LabError::Guest { detail, .. }), Some(tried)) = (&mut checked, tried) {
            *detail = tried;
        }
        checked
    }

    /// A refusal of the guest or its agent.
    pub(crate) fn remote(&self, error: WireError) -> LabError {
        let subject = self.subject.clone();
        let call = self.call.clone();
        match error.kind {
            ErrorKind::Os => LabError::Guest {
                subject,
                call,
                errno: error.errno,
                detail: String::new(),
            },
            ErrorKind::LaneDied => LabError::ExecutorDied {
                subject,
                call,
                how: error.message,
            },
            ErrorKind::StaleDescriptor => LabError::gone(
                subject,
                call,
                "the process in the guest that had it has ended",
            ),
            ErrorKind::NoSuchLane => LabError::gone(subject, call, "the worker is gone"),
            ErrorKind::Invalid | ErrorKind::Cancelled | ErrorKind::TooLarge => {
                LabError::invalid(subject, call, error.message)
            }
        }
    }
}

/// The outcome of waiting for a command.
pub(crate) enum WaitOutcome {
    /// It has ended by itself.
    Ended(Result<Exit, CallError>),
    /// Its time was up, and it was killed.
    Killed(Result<Exit, CallError>),
    /// Its time was up. It was started, but its end is not confirmed: it is in an uninterruptible wait, or
    /// the guest does not answer.
    Unkilled(Exit),
    /// Its time was up before it was started, or the VM is paused.
    Failed(LabError),
}

/// Waits for the end; when the time is up, kills it and all its descendants. Returns shortly after the limit
/// whatever the guest does.
pub(crate) async fn wait_or_kill(
    context: &CallContext,
    command: &Command,
    limit: Option<Duration>,
) -> WaitOutcome {
    let Some(limit) = limit else {
        return WaitOutcome::Ended(command.wait().await);
    };
    if let Ok(ended) = timeout(limit, command.wait()).await {
        return WaitOutcome::Ended(ended);
    }
    if context.target.vm().is_paused() {
        return WaitOutcome::Failed(context.timed_out(limit, &Cause::Paused));
    }
    let killed = async {
        // A failure means that it has just ended: the wait returns its result.
        let _ = command.signal_to(SIGKILL, SignalTarget::Tree).await;
        command.wait().await
    };
    match timeout(KILL_GRACE, killed).await {
        Ok(ended) => WaitOutcome::Killed(ended),
        Err(_) if context.target.vm().is_paused() => {
            WaitOutcome::Failed(context.timed_out(limit, &Cause::Paused))
        }
        Err(_) if command.pid().is_some() => WaitOutcome::Unkilled(Exit {
            code: None,
            signal: None,
            duration_ns: u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX),
        }),
        Err(_) => WaitOutcome::Failed(context.given_up(limit).await),
    }
}

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

impl CallContext {
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
            let rest = self.target.vm().scale_timeout(KILL_GRACE);
            if let Ok(done) = timeout(rest, work).await {
                return Ok(done);
            }
        }
        let whole_seconds = Duration::from_secs(began.elapsed().as_secs());
        Err(self.timed_out(whole_seconds, &cause))
    }

    /// Why a call on this context does not complete.
    async fn cause(&self, process: Option<u32>) -> Cause {
        if self.target.vm().is_paused() {
            return Cause::Paused;
        }
        let channel = self.lane.channel();
        if !channel.answers_within(PING_LIMIT).await {
            return if self.target.vm().is_paused() {
                Cause::Paused
            } else {
                Cause::NoAnswer
            };
        }
        if let Some(pid) = process
            && process_state(&self.target, pid).await == Some('D')
        {
            return Cause::Uninterruptible;
        }
        if let Some(worker) = self.target.worker()
            && is_stopped(&self.target, worker.pid).await
        {
            return Cause::Stopped;
        }
        // The agent itself never waits for a raw syscall, but to start a worker it needs the process
        // that makes those of the VM.
        let lane = match self.lane.lane() {
            Lane::AGENT => self.target.lane(),
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

/// Whether a process of the guest is stopped (SIGSTOP, or a tracer), as far as the guest reports that within a
/// short time.
pub(crate) async fn is_stopped(vm: &Target, pid: u32) -> bool {
    matches!(process_state(vm, pid).await, Some('T' | 't'))
}

/// The state of a process of the guest, as `ps` shows it (`R`, `S`, `D`, `T`, `t`, `Z`), if the guest
/// reports it within a short time.
async fn process_state(vm: &Target, pid: u32) -> Option<char> {
    let path = format!("/proc/{pid}/stat");
    let context = CallContext::new(&vm.without_worker(), "stat").ok()?;
    let stat = context.lane.read_file(path.as_bytes());
    let stat = timeout(PROCESS_STATE_LIMIT, stat).await;
    state_in(&stat.ok()?.ok()?)
}

/// The state in a `/proc/PID/stat`: the first field after the name, which may contain any byte.
fn state_in(stat: &[u8]) -> Option<char> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    stat.get(name_end + 2).map(|state| char::from(*state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_process_is_read_whatever_its_name() {
        assert_eq!(state_in(b"12 (provium-exec) T 1 12 12 0"), Some('T'));
        assert_eq!(state_in(b"12 (a) R (b) t 1"), Some('t'));
        assert_eq!(state_in(b"12 (T T) S 1 12"), Some('S'));
        assert_eq!(state_in(b""), None);
    }
}
