//! Putting VMs back to what they were.

use crate::budget::Grant;
use crate::error::LabError;
use crate::lock::lock;
use crate::saved::{Again, Identity, Revived, host_name};
use crate::snapshot::vm::Snapshot;
use crate::vm::{Started, Vm, now_ns};
use provium_events::BootKind;
use provium_image::GuestImage;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::sync::MutexGuard;

impl Vm {
    /// Makes it what the snapshot's VM was at that moment, from whatever state it is in. It keeps its
    /// name, which the guest gets as its host name if the snapshot is another VM's; the guest's clock
    /// is as it was then.
    ///
    /// # Errors
    /// When the snapshot is gone or damaged, or is of another guest, QEMU or version.
    pub async fn restore(&self, snapshot: &Snapshot) -> Result<(), LabError> {
        self.restore_on(snapshot, Occasion::Restore).await
    }

    pub(crate) async fn restore_on(
        &self,
        snapshot: &Snapshot,
        occasion: Occasion,
    ) -> Result<(), LabError> {
        let (vm, snapshot) = (self.clone(), snapshot.clone());
        self.apart("restore()", async move {
            let lifecycle = vm.0.lifecycle.lock().await;
            let ready = vm.prepare(lifecycle, &snapshot, None).await?;
            ready.go(occasion).await
        })
        .await
    }

    /// All of a restore but its last step, with its life-cycle lock and what was granted for it
    /// already, if anything was. As long as the last step is not taken, nothing is lost.
    pub(crate) async fn prepare<'a>(
        &'a self,
        lifecycle: MutexGuard<'a, ()>,
        snapshot: &'a Snapshot,
        granted: Option<Grant>,
    ) -> Result<Ready<'a>, LabError> {
        let failed = |error| LabError::host(self.subject(), "restore()", error);
        if self.is_closed() {
            return Err(LabError::gone(
                self.subject(),
                "restore()",
                "the VM is closed",
            ));
        }
        if snapshot.0.folder.is_gone() {
            let why = format!("the {} was deleted", snapshot.subject());
            return Err(LabError::gone(self.subject(), "restore()", why));
        }
        let saved = &snapshot.0.saved;
        let image = self.environment().image(&saved.facts.profile).await;
        let image = image.map_err(|error| self.host_error(error))?;
        if image.id != saved.facts.image {
            let profile = &saved.facts.profile;
            let why = format!(
                "the snapshot is of a guest that profile `{profile}` no longer makes; take it anew"
            );
            return Err(LabError::invalid(self.subject(), "restore()", why));
        }
        let need = snapshot.need();
        let before = self.0.stage.borrow().running().cloned();
        let inherits = before.as_ref().is_some_and(|before| {
            let grant = lock(&before.grant);
            grant.as_ref().is_some_and(|grant| need.fits(grant.need()))
        });
        let grant = match granted {
            None if !inherits => Some(self.grant("restore()", need).await?),
            granted => granted,
        };
        // A wait for the pool is no part of it.
        let begun = Instant::now();
        let revived = self.load(saved, &image).await.map_err(failed)?;
        Ok(Ready {
            vm: self,
            _lifecycle: lifecycle,
            snapshot,
            revived,
            image,
            grant,
            begun,
        })
    }
}

/// Why a VM is put back, which decides on its clock.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Occasion {
    /// A test asked for that moment: the clock is as it was then.
    Restore,
    /// It is reset between tests: the clock shows this, nanoseconds since 1970.
    Reset(i64),
    /// It comes from a fixture, which stands for a boot: the clock shows the host's time.
    Fixture,
}

/// A VM with the machine that it will go on with.
pub(crate) struct Ready<'a> {
    vm: &'a Vm,
    _lifecycle: MutexGuard<'a, ()>,
    snapshot: &'a Snapshot,
    revived: Revived,
    image: Arc<GuestImage>,
    /// `None`: that of the machine that runs until then.
    grant: Option<Grant>,
    begun: Instant,
}

impl Ready<'_> {
    /// The last step: from here on the VM is what it was.
    pub(crate) async fn go(self, occasion: Occasion) -> Result<(), LabError> {
        let (again, realtime_ns) = match occasion {
            Occasion::Restore => (Again::Perhaps, None),
            Occasion::Reset(realtime_ns) => (Again::Surely, Some(realtime_ns)),
            Occasion::Fixture => (Again::Perhaps, Some(now_ns())),
        };
        self.vm
            .keep_spare(&self.snapshot.0.saved, again, &self.image);
        let Self {
            vm,
            snapshot,
            revived,
            grant,
            begun,
            ..
        } = self;
        let saved = &snapshot.0.saved;
        let own = snapshot
            .0
            .origin
            .as_ref()
            .filter(|origin| origin.vm == vm.id());
        for process in own.iter().flat_map(|origin| &origin.processes) {
            process.take_up(vm, &revived.channel);
        }
        let renamed = saved.facts.name != vm.name();
        let identity = Identity {
            realtime_ns,
            hostname: renamed.then(|| host_name(vm.name())),
            is_seeded: saved.machine.facts.rng_seed.is_some(),
        };
        let limit = vm.agent_limit(&lock(&vm.0.booted_with).clone());
        let woken = revived.wake(identity, limit).await;
        woken.map_err(|error| LabError::host(vm.subject(), "restore()", error))?;

        let before = vm.0.stage.borrow().running().cloned();
        let inherited = || {
            before
                .as_ref()
                .and_then(|before| lock(&before.grant).take())
        };
        let grant = match grant.or_else(inherited) {
            Some(grant) => grant,
            // The machine before has died meanwhile, and its grant with it.
            None => vm.grant("restore()", snapshot.need()).await?,
        };
        if let Some(before) = &before {
            before.stop_watch();
            vm.emit_shutdown(before);
        }
        match own {
            Some(origin) => {
                lock(&vm.0.timeline).back_to(&origin.past);
                vm.0.open_files.store(origin.open_files, Ordering::Relaxed);
            }
            None => {
                lock(&vm.0.timeline).back_to_strange();
                vm.0.open_files.store(0, Ordering::Relaxed);
            }
        }
        let Revived {
            machine,
            channel,
            base,
        } = revived;
        let started = Started {
            machine,
            channel,
            kind: BootKind::Snapshot,
            base: Some(base),
        };
        vm.goes_on(started, grant, begun.elapsed());
        if let Some(before) = before {
            before
                .channel
                .shut_down("the VM was put back to a snapshot");
            before.machine.quit().await;
        }
        Ok(())
    }
}
