//! Waits on the console of a VM that depend on whether its guest lives.

use crate::error::LabError;
use crate::guest::console::never_call;
use crate::vm::handle::Vm;
use crate::vm::running::DeathReport;
use crate::vm::state::{Stage, VmState};
use std::sync::Arc;
use std::time::Duration;

impl Vm {
    /// Waits for `duration`, in which the guest must not print the text. Returns earlier when the VM is switched off on
    /// purpose. While it is off from the beginning on, a boot is waited for.
    ///
    /// # Errors
    /// When the text comes; when the VM is dead or dies: a guest that is gone could not have printed it. Nor could one
    /// whose VM is paused at the end.
    pub async fn never_prints(&self, text: &[u8], duration: Duration) -> Result<(), LabError> {
        let console = self.console();
        let dead = |report: &DeathReport| Err(report.error(console.subject(), never_call(text)));
        if let Stage::Dead(report) = &*self.0.stage.borrow() {
            return dead(report);
        }
        tokio::select! {
            // What a guest prints before it dies is searched first: a VM is dead once its console is complete.
            biased;
            searched = console.never(text, duration) => searched?,
            report = end_of(self) => return report.map_or(Ok(()), |report| dead(&report)),
        }
        if self.state() == VmState::Paused {
            let why = "the VM is paused, so its guest could not print it; resume it before";
            return Err(LabError::invalid(console.subject(), never_call(text), why));
        }
        Ok(())
    }
}

/// Waits until the VM is dead, or does not run any more.
async fn end_of(vm: &Vm) -> Option<Arc<DeathReport>> {
    let mut stage = vm.0.stage.subscribe();
    let mut has_run = false;
    loop {
        match &*stage.borrow_and_update() {
            Stage::Dead(report) => return Some(Arc::clone(report)),
            Stage::Booted(_) | Stage::Paused(_) => has_run = true,
            Stage::Created | Stage::Shutdown if has_run => return None,
            Stage::Created | Stage::Shutdown => {}
        }
        if stage.changed().await.is_err() {
            return None;
        }
    }
}
