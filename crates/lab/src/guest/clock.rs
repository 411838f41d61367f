//! A guest's CLOCK_REALTIME, in nanoseconds since 1970.

use crate::error::LabError;
use crate::vm::Vm;
use provium_protocol::message::Reply;
use provium_protocol::op::Op;
use std::time::Duration;

/// The clock of a VM.
#[derive(Debug, Clone)]
pub struct Clock(Vm);

impl Clock {
    pub(crate) fn new(vm: Vm) -> Self {
        Self(vm)
    }

    /// The VM it belongs to.
    pub fn vm(&self) -> &Vm {
        &self.0
    }

    /// What it says.
    pub async fn get(&self) -> Result<i64, LabError> {
        self.ask("clock:get()".to_owned(), Op::ClockGet).await
    }

    /// Sets it; times before 1970 are allowed where the guest's kernel allows them.
    pub async fn set(&self, ns: i64) -> Result<i64, LabError> {
        self.ask(format!("clock:set_ns({ns})"), Op::ClockSet { ns })
            .await
    }

    /// Moves it by so much, either way.
    pub async fn advance(&self, ns: i64) -> Result<i64, LabError> {
        self.ask(format!("clock:advance({ns} ns)"), Op::ClockAdvance { ns })
            .await
    }

    /// Sleeps on the guest's CLOCK_MONOTONIC.
    pub async fn sleep(&self, duration: Duration) -> Result<(), LabError> {
        let line = self
            .0
            .surface()
            .commands(format!("clock:sleep({duration:?})"))?;
        let slept = line.lane.clock_sleep(duration).await;
        line.checked(slept).await
    }

    async fn ask(&self, call: String, op: Op) -> Result<i64, LabError> {
        let line = self.0.surface().commands(call)?;
        match line.request(op).await? {
            Reply::Clock(ns) => Ok(ns),
            other => Err(line.strange(&other)),
        }
    }
}
