//! Errors between a test and its guests. Their texts name object, call and cause.

use crate::errno;
use provium_pool::PoolError;
use provium_units::format_duration;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// Why a call of the lab failed.
///
/// `subject` is the object (``vm `web` ``), `call` the method as the author wrote it
/// (`read_file("/x")`).
#[derive(Debug, Clone, thiserror::Error)]
pub enum LabError {
    /// The object is in a state that does not allow the call.
    #[error("{subject}: {call} needs state {allowed}, but it is {found}")]
    State {
        /// The object.
        subject: String,
        /// The call.
        call: String,
        /// States that allow it, as `booted or paused`.
        allowed: &'static str,
        /// The state it is in.
        found: &'static str,
    },
    /// QEMU or the guest ended on its own.
    #[error("{subject}: {call}: {}: {how}{}", died(.in_test.as_deref()), console_tail(.console))]
    Dead {
        /// The object.
        subject: String,
        /// The call.
        call: String,
        /// The test in which it died, whose report shows its console; `None`: the one that makes the call,
        /// or none.
        in_test: Option<String>,
        /// When and how it died.
        how: String,
        /// The last bytes of its console, as text.
        console: String,
    },
    /// A boot did not come to an agent that answers.
    #[error("{subject}: boot(): {how}{}", console_end(.console))]
    Boot {
        /// The object.
        subject: String,
        /// What happened instead.
        how: String,
        /// The last bytes of its console, as text.
        console: String,
    },
    /// The guest's kernel refused.
    #[error("{subject}: {call}: {}", describe_guest(*.errno, .detail))]
    Guest {
        /// The object.
        subject: String,
        /// The call.
        call: String,
        /// Its errno.
        errno: i32,
        /// What could not be done, said so that it completes "cannot"; empty where the call says it.
        detail: String,
    },
    /// A fixture whose build has failed for another user in this run.
    #[error("{subject} failed in {wanted_by}: {reason}")]
    FixtureFailed {
        /// The fixture.
        subject: String,
        /// Who wanted it then: ``test `x` ``, a test file, another fixture.
        wanted_by: String,
        /// The first line of its error.
        reason: String,
    },
    /// The object is gone: closed, joined, or lost in a reset.
    #[error("{subject}: {call}: {why}")]
    Gone {
        /// The object.
        subject: String,
        /// The call.
        call: String,
        /// `file is closed`.
        why: String,
    },
    /// The call makes no sense.
    #[error("{subject}: {call}: {why}")]
    Invalid {
        /// The object.
        subject: String,
        /// The call.
        call: String,
        /// Why, and what would.
        why: String,
    },
    /// A process of the agent's that carries out calls ended under this one.
    #[error("{subject}: {call}: {how}")]
    ExecutorDied {
        /// The object.
        subject: String,
        /// The call.
        call: String,
        /// Exit status or signal.
        how: String,
    },
    /// It did not end in time.
    #[error("{subject}: {call}: timed out after {}{note}", format_duration(*after))]
    TimedOut {
        /// The object.
        subject: String,
        /// The call.
        call: String,
        /// The time it had.
        after: Duration,
        /// More, for a reader; empty or beginning with `; `.
        note: String,
    },
    /// The host's memory and processors do not suffice.
    #[error("{subject}: {call}: {cause}")]
    Budget {
        /// The object.
        subject: String,
        /// The call.
        call: String,
        /// What is missing. The text has it, so it is not the error's source.
        cause: PoolError,
    },
    /// The host could not do its part.
    #[error("{subject}: {call}: {}", chain(.cause.as_ref()))]
    Host {
        /// The object.
        subject: String,
        /// The call.
        call: String,
        /// Why. The text has it with all its causes, so it is not the error's source.
        cause: Arc<dyn std::error::Error + Send + Sync>,
    },
}

impl LabError {
    /// Whether the same call would fail in the same way again.
    pub(crate) fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Guest { .. } | Self::Gone { .. } | Self::Dead { .. } | Self::ExecutorDied { .. }
        )
    }

    /// The guest's errno, where the guest's kernel refused.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Guest { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    pub(crate) fn invalid(
        subject: impl Into<String>,
        call: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Self::Invalid {
            subject: subject.into(),
            call: call.into(),
            why: why.into(),
        }
    }

    /// The same about an object in the VM that it is about.
    pub(crate) fn of_subject(mut self, object: &str) -> Self {
        if let Self::State { subject, .. }
        | Self::Dead { subject, .. }
        | Self::Gone { subject, .. } = &mut self
        {
            object.clone_into(subject);
        }
        self
    }

    pub(crate) fn gone(
        subject: impl Into<String>,
        call: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Self::Gone {
            subject: subject.into(),
            call: call.into(),
            why: why.into(),
        }
    }

    pub(crate) fn host(
        subject: impl Into<String>,
        call: impl Into<String>,
        cause: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self::Host {
            subject: subject.into(),
            call: call.into(),
            cause: Arc::new(cause),
        }
    }
}

/// That a VM is dead; in which test it died, if that is another one.
pub(crate) fn died(in_test: Option<&str>) -> String {
    match in_test {
        Some(test) => format!("the VM died in test `{test}`"),
        None => "the VM is dead".to_owned(),
    }
}

fn console_tail(console: &str) -> String {
    if console.trim().is_empty() {
        return String::new();
    }
    let mut text = String::from("\nlast lines of its console:");
    for line in console.lines().filter(|line| !line.trim().is_empty()) {
        let _ = write!(text, "\n  | {}", line.trim_end_matches('\r'));
    }
    text
}

/// The console's end as the guest wrote it: tests of boots that fail search it.
fn console_end(console: &str) -> String {
    if console.trim().is_empty() {
        return String::new();
    }
    format!("\nthe end of its console:\n{console}")
}

fn describe_guest(number: i32, detail: &str) -> String {
    if detail.is_empty() {
        errno::describe(number)
    } else {
        format!("cannot {detail}: {}", errno::describe(number))
    }
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &(dyn std::error::Error + Send + Sync + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}
