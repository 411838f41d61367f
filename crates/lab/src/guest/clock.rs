//! A guest's CLOCK_REALTIME, in nanoseconds since 1970.

use crate::error::LabError;
use crate::guest::context::CallContext;
use crate::guest::target::Target;
use provium_protocol::op::{ClockAdvance, ClockGet, ClockSet, ClockSleep, Op, Request};
use std::time::Duration;

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
        self.request("clock:get()".to_owned(), ClockGet).await
    }

    /// Sets it; times before 1970 are allowed where the guest's kernel allows them.
    pub async fn set(&self, ns: i64) -> Result<i64, LabError> {
        self.request(format!("clock:set_ns({ns})"), ClockSet { ns })
            .await
    }

    /// Moves it by so much, either way.
    pub async fn advance(&self, ns: i64) -> Result<i64, LabError> {
        self.request(format!("clock:advance({ns} ns)"), ClockAdvance { ns })
            .await
    }

    /// Sleeps on the guest's CLOCK_MONOTONIC.
    pub async fn sleep(&self, duration: Duration) -> Result<(), LabError> {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.request(format!("clock:sleep({duration:?})"), ClockSleep { ns })
            .await
    }

    async fn request<R: Request + Into<Op>>(
        &self,
        call: String,
        request: R,
    ) -> Result<R::Reply, LabError> {
        CallContext::new(&self.0, call)?.request(request).await
    }
}
