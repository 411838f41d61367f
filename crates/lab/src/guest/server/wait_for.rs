//! Waiting until something is true in the guest.
//!
//! The guest checks files, servers and processes itself, in rounds: a round is one operation, and what it
//! saw last comes with its reply. Commands are run again and again.

use crate::errno;
use crate::error::LabError;
use crate::guest::command::{CommandSpec, RunResult, RunStatus};
use crate::guest::context::CallContext;
use crate::guest::ops::GuestOps;
use crate::guest::wait::KILL_GRACE;
use provium_events::printable::text_of;
use provium_protocol::message::{FileStat, WaitResult};
use provium_protocol::op::{Condition, WaitFor};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// How long a round in the guest is. Bounds what the process that checks there allocates.
const ROUND: Duration = Duration::from_secs(1);
/// How much of a command's standard error is shown, bytes.
const SHOWN: usize = 512;
/// The least time that a command is given.
const LEAST: Duration = Duration::from_millis(100);

/// What to wait for.
#[derive(Debug, Clone)]
pub enum WaitCondition {
    /// Something that the guest checks itself.
    Guest(Condition),
    /// A command exits with 0.
    Succeeds(Box<CommandSpec>),
}

/// How long, and how often it is checked.
#[derive(Debug, Clone, Copy)]
pub struct WaitLimits {
    /// After this time it fails.
    pub timeout: Duration,
    /// From one check to the next.
    pub interval: Duration,
}

/// What was found.
#[derive(Debug, Clone)]
pub enum WaitMatch {
    /// The file.
    File(FileStat),
    /// The server accepts connections.
    Server,
    /// The processes' ids, ascending.
    Processes(Vec<u32>),
    /// The result of the command.
    Command(Box<RunResult>),
}

/// Waits for a condition. Messages show it as the author's `call`.
///
/// # Errors
/// When the time is up, with what was seen last; when the guest dies, is reset or restored meanwhile.
pub async fn wait_for(
    ops: &GuestOps,
    call: String,
    condition: WaitCondition,
    limits: WaitLimits,
) -> Result<WaitMatch, LabError> {
    let context = CallContext::new(ops.target(), call)?;
    match condition {
        WaitCondition::Guest(condition) => in_guest(&context, condition, limits).await,
        WaitCondition::Succeeds(command) => succeeds(&context, ops, *command, limits).await,
    }
}

async fn in_guest(
    context: &CallContext,
    condition: Condition,
    limits: WaitLimits,
) -> Result<WaitMatch, LabError> {
    let deadline = Instant::now() + limits.timeout;
    // A slow guest may answer late, one that hangs never does.
    let grace = context.target.vm().scale_timeout(KILL_GRACE);
    loop {
        let round = deadline
            .saturating_duration_since(Instant::now())
            .min(ROUND);
        let request = context.lane.call(WaitFor {
            condition: condition.clone(),
            interval_ns: nanoseconds(limits.interval),
            timeout_ns: nanoseconds(round),
        });
        let Ok(reply) = timeout_at(deadline + grace, request).await else {
            return Err(context.given_up(limits.timeout).await);
        };
        match context.explain(reply).await? {
            WaitResult::File(stat) => return Ok(WaitMatch::File(stat)),
            WaitResult::Server => return Ok(WaitMatch::Server),
            WaitResult::Processes(ids) => return Ok(WaitMatch::Processes(ids)),
            WaitResult::TimedOut { errno } if Instant::now() >= deadline => {
                return Err(not_met(context, limits, &errno::describe(errno)));
            }
            WaitResult::TimedOut { .. } => {}
        }
    }
}

async fn succeeds(
    context: &CallContext,
    ops: &GuestOps,
    command: CommandSpec,
    limits: WaitLimits,
) -> Result<WaitMatch, LabError> {
    let deadline = Instant::now() + limits.timeout;
    let mut ended: Option<String> = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let last = match ops.run(command.clone(), Some(left.max(LEAST))).await {
            Ok(result) if result.ok() => return Ok(WaitMatch::Command(Box::new(result))),
            // How the one before has ended says more.
            Ok(result) if result.status == RunStatus::TimedOut => {
                ended.unwrap_or_else(|| described(&result))
            }
            Ok(result) => described(&result),
            // Its program may not be there yet.
            Err(LabError::Guest { errno, detail, .. }) => {
                let cannot = if detail.is_empty() {
                    String::new()
                } else {
                    format!("cannot {detail}: ")
                };
                format!("{cannot}{}", errno::describe(errno))
            }
            Err(error) => return Err(error),
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(not_met(context, limits, &last));
        }
        ended = Some(last);
        sleep(limits.interval.min(left)).await;
    }
}

fn not_met(context: &CallContext, limits: WaitLimits, last: &str) -> LabError {
    LabError::TimedOut {
        subject: context.subject.clone(),
        call: context.call.clone(),
        after: limits.timeout,
        note: format!("; last: {last}"),
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// How a command ended, and the end of what it said about that.
fn described(result: &RunResult) -> String {
    let how = match result.status {
        RunStatus::Exited(code) => format!("exit code {code}"),
        RunStatus::Signalled(signal) => format!("killed by signal {signal}"),
        RunStatus::TimedOut => "still running when the time was up".to_owned(),
    };
    let stderr = result.stderr.trim_ascii();
    if stderr.is_empty() {
        return how;
    }
    let shown = text_of(&stderr[stderr.len().saturating_sub(SHOWN)..]);
    format!("{how}, stderr: {}", shown.trim())
}
