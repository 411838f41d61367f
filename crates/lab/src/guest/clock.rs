//! A guest's CLOCK_REALTIME, in nanoseconds since 1970.

use crate::error::LabError;
use crate::guest::context::CallContext;
use crate::guest::target::Target;
use provium_protocol::op::{ClockAdvance, ClockGet, ClockSet, ClockSleep, Op, Request};
use std::time::Duration;

const EINVAL: i32 = 22;

/// The clock of a VM.
#[derive(Debug, Clone)]
pub struct Clock(Target);

impl Clock {
    /// The clock of the VM that is the target.
    pub(crate) fn new(vm: Target) -> Self {
        Self(vm)
    }

    /// The VM it belongs to.
    pub(crate) fn target(&self) -> &Target {
        &self.0
    }

    /// Its name in messages: ``clock of vm `web` ``.
    pub fn subject(&self) -> String {
        format!("clock of {}", self.0.subject())
    }

    /// Its time.
    pub async fn get(&self) -> Result<i64, LabError> {
        self.request("get()", ClockGet).await
    }

    /// Sets it; times before 1970 are allowed where the guest's kernel allows them. Messages show it as the
    /// author's `call`.
    pub async fn set(&self, call: &str, ns: i64) -> Result<i64, LabError> {
        let set = self.request(call, ClockSet { ns }).await;
        set.map_err(out_of_range)
    }

    /// Moves it by so much, either way. Messages show it as the author's `call`.
    pub async fn advance(&self, call: &str, ns: i64) -> Result<i64, LabError> {
        let set = self.request(call, ClockAdvance { ns }).await;
        set.map_err(out_of_range)
    }

    /// Sleeps on the guest's CLOCK_MONOTONIC, which stops while the VM is paused and is not set.
    pub async fn sleep(&self, duration: Duration) -> Result<(), LabError> {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.request(&format!("sleep({duration:?})"), ClockSleep { ns })
            .await
    }

    async fn request<R: Request + Into<Op>>(
        &self,
        call: &str,
        request: R,
    ) -> Result<R::Reply, LabError> {
        // The error of a VM in another state names the VM.
        let context = CallContext::new(&self.0, format!("clock:{call}"))?;
        let context = context.with_subject(self.subject(), call);
        context.request(request).await
    }
}

/// Which times a kernel takes: `timespec64_valid_settod()` and `do_settimeofday64()` of Linux, since 4.3.
const ACCEPTED: &str = "Linux accepts times from its own uptime after 1970 to April 2232";

/// The error of a kernel that was given this time, with the reason.
fn out_of_range(error: LabError) -> LabError {
    match error {
        LabError::Guest {
            subject,
            call,
            errno: errno @ EINVAL,
            ..
        } => LabError::Guest {
            subject,
            call,
            errno,
            detail: format!("set the clock, since {ACCEPTED}"),
        },
        error => error,
    }
}

/// What to add to the error of an agent that could not set `initial_time`: nothing, unless the time is the reason.
pub(crate) fn note_on_initial_time(number: i32) -> String {
    if number == EINVAL {
        format!("; `initial_time`: {ACCEPTED}")
    } else {
        String::new()
    }
}
