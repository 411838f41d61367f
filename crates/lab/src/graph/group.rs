//! Operations on all VMs of a lab at once.

use crate::error::LabError;
use crate::vm::{Vm, VmState};
use crate::vm_options::VmOptions;
use std::future::Future;
use std::time::Duration;

/// The VMs of a lab, without those of its sub-labs.
#[derive(Debug, Clone)]
pub struct VmGroup(pub(super) Vec<Vm>);

impl VmGroup {
    /// Boots all that are off in parallel, as [`Vm::boot_within`]. A dead VM is an error, since a crash would go
    /// unnoticed otherwise; its own `boot` starts it again.
    pub async fn boot(self, left: Option<Duration>) -> Result<(), LabError> {
        self.each(|vm| async move {
            if vm.is_off() {
                vm.boot_within(VmOptions::default(), left).await
            } else if vm.state() == VmState::Dead {
                vm.0.running_in("boot()", VmState::Booted, "booted")
                    .map(drop)
            } else {
                Ok(())
            }
        })
        .await
    }

    /// Shuts down all of them in parallel.
    pub async fn shutdown(self) -> Result<(), LabError> {
        self.each(|vm| async move { vm.power().shutdown().await })
            .await
    }

    /// Pauses all of them in parallel.
    pub async fn pause(self) -> Result<(), LabError> {
        self.each(|vm| async move { vm.power().pause().await })
            .await
    }

    /// Resumes all of them in parallel.
    pub async fn resume(self) -> Result<(), LabError> {
        self.each(|vm| async move { vm.power().resume().await })
            .await
    }

    /// Does `act` to all of them at once, and returns the first failure when all are done.
    async fn each<F>(self, act: impl Fn(Vm) -> F) -> Result<(), LabError>
    where
        F: Future<Output = Result<(), LabError>>,
    {
        let all = futures_util::future::join_all(self.0.into_iter().map(act)).await;
        all.into_iter().collect()
    }
}
