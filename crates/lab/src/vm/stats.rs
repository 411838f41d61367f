//! Statistics of a booted VM.

use crate::error::LabError;
use crate::guest::context::CallContext;
use crate::vm::handle::Vm;
use crate::vm::state::VmState;
use provium_events::BootKind;
use provium_protocol::message::GuestStats;
use provium_protocol::op::Stats;
use std::time::Duration;

/// Statistics of a booted VM.
#[derive(Debug, Clone)]
pub struct VmStats {
    /// Processor time that QEMU has used.
    pub cpu_time: Duration,
    /// Host memory that QEMU holds, bytes.
    pub resident_bytes: u64,
    /// That memory, but pages that are shared with other processes count in part, bytes.
    pub proportional_bytes: u64,
    /// How it was started: booted cold, from a template, or restored.
    pub boot_kind: BootKind,
    /// From the call of `boot` to the agent's answer.
    pub boot_time: Duration,
    /// What the guest reports.
    pub guest: GuestStats,
}

impl Vm {
    /// Time since the guest's kernel started, on the guest's clock.
    pub async fn uptime(&self) -> Result<Duration, LabError> {
        let stats = guest_stats(self, "uptime()").await?;
        Ok(Duration::from_nanos(stats.uptime_ns))
    }

    /// Its statistics.
    pub async fn stats(&self) -> Result<VmStats, LabError> {
        let guest = guest_stats(self, "stats()").await?;
        let running = self.0.running_in("stats()", VmState::Booted, "booted")?;
        let usage = running.machine.usage();
        let usage = usage.map_err(|error| LabError::host(self.subject(), "stats()", error))?;
        Ok(VmStats {
            cpu_time: usage.cpu_time,
            resident_bytes: usage.resident_bytes,
            proportional_bytes: usage.proportional_bytes,
            boot_kind: running.boot_kind,
            boot_time: running.boot_time,
            guest,
        })
    }
}

async fn guest_stats(vm: &Vm, call: &str) -> Result<GuestStats, LabError> {
    let context = CallContext::of_agent(&vm.target(), call)?;
    let stats = context.lane.channel().call(Stats).await;
    context.explain(stats).await
}
