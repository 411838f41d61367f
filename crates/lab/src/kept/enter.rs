//! Restores a VM of a kept failure.

use crate::error::LabError;
use crate::graph::lab::Lab;
use crate::kept::catalogue::{KeptFailure, KeptFailures};
use crate::kept::manifest::{KeptState, KeptVm};
use crate::resource::Scope;
use crate::snapshot::Snapshot;
use crate::vm::Vm;
use std::sync::Arc;

impl KeptFailures {
    /// Makes a VM in `scope` that continues where the saved one was. The failure stays as it is.
    ///
    /// # Errors
    /// When it was removed or is damaged, when only the console is kept of the VM, and as for
    /// [`Vm::restore`].
    pub async fn enter(
        &self,
        failure: &KeptFailure,
        vm: &KeptVm,
        lab: &Lab,
        scope: &Scope,
    ) -> Result<Vm, LabError> {
        let subject = format!("vm `{}` of the kept failure", vm.name);
        let failed = |error| LabError::host(&subject, "restore()", error);
        if let KeptState::Console { why } = &vm.state {
            let why = format!("it was not saved: {why}");
            return Err(LabError::invalid(subject, "restore()", why));
        }
        let entry = self
            .bucket()
            .get(&failure.key, &|_| ())
            .await
            .map_err(failed)?;
        let Some(entry) = entry else {
            let why = "it was removed, or is damaged";
            return Err(LabError::gone(subject, "restore()", why));
        };
        let entry = Arc::new(entry);
        let snapshot = Snapshot::of_entry(&entry, &entry.path().join(&vm.part))?;
        let made = lab.create_vm(scope, &vm.name, &vm.profile, snapshot.options())?;
        made.restore(&snapshot).await?;
        Ok(made)
    }
}
