//! Waits on the console of a VM that end with its guest, and why they ended.

use crate::error::LabError;
use crate::guest::console::{Console, expect_any_call, expect_call, never_call};
use crate::vm::handle::Vm;
use crate::vm::running::DeathReport;
use crate::vm::state::{Stage, VmState};
use std::sync::Arc;
use std::time::Duration;

/// Waits for what the console of a VM prints, for as long as its guest can print.
#[derive(Debug, Clone)]
pub struct ConsoleWait {
    vm: Vm,
    console: Console,
}

impl Vm {
    /// Waits on its console, from the first byte on; also before the boot.
    pub fn console_wait(&self) -> ConsoleWait {
        ConsoleWait {
            vm: self.clone(),
            console: self.console(),
        }
    }
}

impl ConsoleWait {
    /// Waits until the text is anywhere in the log of the last boot or reset. Consumes nothing.
    ///
    /// # Errors
    /// This and the following: when the time is up, and when the guest has ended without it; the error says how.
    pub async fn expect(&self, text: &[u8], timeout: Duration) -> Result<(), LabError> {
        let texts = [text];
        let found = self.wait_for(expect_call(text), &texts, timeout);
        found.await.map(drop)
    }

    /// Waits until one of the texts is anywhere in the log of the last boot or reset; its index.
    pub async fn expect_any(&self, texts: &[&[u8]], timeout: Duration) -> Result<usize, LabError> {
        let call = expect_any_call(texts);
        self.wait_for(call, texts, timeout).await
    }

    async fn wait_for(
        &self,
        call: String,
        texts: &[&[u8]],
        timeout: Duration,
    ) -> Result<usize, LabError> {
        let console = &self.console;
        if let Some(found) = console.wait_for_any(&call, texts, timeout).await? {
            return Ok(found);
        }
        // A machine may be gone a little before the VM is dead.
        let error = match self.vm.0.stage_after_end().await {
            Some(Stage::Dead(report)) => {
                let mut error = report.error(console.subject(), call);
                if let LabError::Dead { how, .. } = &mut error {
                    how.push_str(&console.lost());
                }
                error
            }
            Some(stage) => console.ended_before(&call, texts, Some(self.why_off(&stage))),
            None => console.ended_before(&call, texts, None),
        };
        Err(error)
    }

    /// How its guest ended, for the end of a stream of its console; `None` while it runs.
    pub async fn describe_end(&self) -> Option<String> {
        let how = match self.vm.0.stage_after_end().await? {
            Stage::Dead(report) => report.describe(),
            stage => self.why_off(&stage).to_owned(),
        };
        Some(format!("{}: {how}", self.vm.subject()))
    }

    /// Why it has no machine, in the stage of a VM that is not dead.
    fn why_off(&self, stage: &Stage) -> &'static str {
        match stage {
            _ if self.vm.is_closed() => "the VM is closed",
            Stage::Created => "the VM is not booted",
            _ => "the VM was shut down",
        }
    }

    /// Waits for `duration`, in which the guest must not print the text. Returns earlier when the VM is switched off on
    /// purpose. While it is off from the beginning on, a boot is waited for.
    ///
    /// # Errors
    /// When the text comes; when the VM is dead or dies: a guest that is gone could not have printed it. Nor could one
    /// whose VM is paused at the end.
    pub async fn never(&self, text: &[u8], duration: Duration) -> Result<(), LabError> {
        let console = &self.console;
        let dead = |report: &DeathReport| Err(report.error(console.subject(), never_call(text)));
        if let Stage::Dead(report) = &*self.vm.0.stage.borrow() {
            return dead(report);
        }
        tokio::select! {
            // What a guest prints before it dies is searched first: a VM is dead once its console is complete.
            biased;
            searched = console.never(text, duration) => searched?,
            report = end_of(&self.vm) => return report.map_or(Ok(()), |report| dead(&report)),
        }
        if self.vm.state() == VmState::Paused {
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
