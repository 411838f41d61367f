//! Lifecycle calls on a running machine: pause, resume, reset, power button, debugger, shutdown, close.
//!
//! A call whose caller stops waiting leaves no VM in between: `pause` and `resume` are undone then, and the
//! others continue to their end without the caller.

use crate::error::LabError;
use crate::lock::lock;
use crate::resource::GuestChange;
use crate::vm::death::{die, shut_down};
use crate::vm::disk::connect_lost_disks;
use crate::vm::handle::Vm;
use crate::vm::nic::reconcile_network;
use crate::vm::reconnect::reconnect;
use crate::vm::running::RunningMachine;
use crate::vm::state::{Lifecycle, Stage, VmState};
use provium_disk::{PowerCut, PowerLoss};
use provium_vmm::VmmError;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Why a guest that sleeps cannot be used any more.
pub(crate) const S3_UNSUPPORTED: &str = "a guest that was started from an ELF kernel, as a bzImage is \
                                        unpacked to, cannot be woken from S3: QEMU would load the kernel \
                                        over its memory again (`s3 = true` in its profile starts it from \
                                        the bzImage)";

/// How long the agent may take to answer once the guest is woken, before the timeout multiplier.
const WAKE_LIMIT: Duration = Duration::from_secs(30);

/// How long `power_button` waits for the guest to power off, before the timeout multiplier, and at most.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(5);
const POWER_OFF_LIMIT_AT_MOST: Duration = Duration::from_secs(15);

/// The power of a VM: pause, resume, reset, power button, wakeup, debugger, shutdown.
#[derive(Debug, Clone, Copy)]
pub struct Power<'a> {
    vm: &'a Vm,
}

impl Vm {
    /// Its power.
    pub fn power(&self) -> Power<'_> {
        Power { vm: self }
    }

    /// Switches it off permanently, and removes it from its scope.
    pub async fn close(&self) -> Result<(), LabError> {
        self.0.closed.store(true, Ordering::Release);
        self.power().shutdown().await?;
        self.0.leave_bridges().await;
        self.0.place.leave();
        Ok(())
    }
}

impl Power<'_> {
    /// Stops its vCPUs.
    pub async fn pause(self) -> Result<(), LabError> {
        switch(self.vm, "pause()", VmState::Booted).await
    }

    /// Continues its vCPUs.
    pub async fn resume(self) -> Result<(), LabError> {
        switch(self.vm, "resume()", VmState::Paused).await
    }

    /// Resets the machine, as its button would; returns when the agent answers again. What belonged to the guest
    /// before (workers, processes, files) is gone. If the agent does not answer again, the VM is dead.
    pub async fn reset(self) -> Result<(), LabError> {
        let call = "reset()";
        let lifecycle = self.vm.0.lifecycle().await;
        let (mut answer, waiting) = oneshot::channel();
        let (vm, mut give_up) = (self.vm.clone(), self.vm.0.give_up.subscribe());
        self.vm.0.environment().runtime().spawn(async move {
            let _lifecycle = lifecycle;
            let done = tokio::select! {
                done = reset_here(&vm) => done,
                // Its caller has stopped waiting, and another call ends the machine.
                () = async {
                    answer.closed().await;
                    // The sender is the VM's.
                    let _ = give_up.changed().await;
                } => return,
            };
            // A caller that is dropped after this has a VM that works, or is dead.
            let _ = answer.send(done);
        });
        match waiting.await {
            Ok(done) => done,
            Err(error) => Err(LabError::host(self.vm.subject(), call, error)),
        }
    }

    /// Presses the ACPI power button; returns once the guest is off, or when it has not obeyed for a few
    /// seconds. It stays booted then, and is shut down whenever it obeys.
    pub async fn power_button(self) -> Result<(), LabError> {
        let call = "power_button()";
        let running = {
            let _lifecycle = self.vm.0.lifecycle().await;
            let running = self.vm.0.running_in(call, VmState::Booted, "booted")?;
            check_awake(self.vm, call, &running).await?;
            // From here on, a guest that powers itself off obeys the button, and is not dead.
            *lock(&running.pressed) = Some(Instant::now());
            on_machine(self.vm, call, running.machine.power_button()).await?;
            running
        };
        let limit = self.vm.0.environment().scale_timeout(POWER_OFF_LIMIT);
        let mut stage = self.vm.0.stage.subscribe();
        let moved_on = stage.wait_for(|stage| {
            let now = stage.running();
            now.is_none_or(|now| !Arc::ptr_eq(now, &running))
        });
        let limit = limit.min(POWER_OFF_LIMIT_AT_MOST);
        let moved_on = tokio::time::timeout(limit, moved_on).await;
        match moved_on {
            Ok(Ok(stage)) => match &*stage {
                Stage::Dead(report) => Err(report.error(self.vm.subject(), call.to_owned())),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Wakes it from S3; returns when its agent answers again.
    pub async fn wakeup(self) -> Result<(), LabError> {
        let _lifecycle = self.vm.0.lifecycle().await;
        let call = "wakeup()";
        let running = self.vm.0.running_in(call, VmState::Booted, "booted")?;
        if !running.machine.can_resume_from_s3() {
            return Err(LabError::invalid(self.vm.subject(), call, S3_UNSUPPORTED));
        }
        match running.machine.is_suspended().await {
            Ok(true) => {}
            Ok(false) => {
                let why = "the guest does not sleep (S3)";
                return Err(LabError::invalid(self.vm.subject(), call, why));
            }
            Err(error) => return on_machine(self.vm, call, async { Err(error) }).await,
        }
        // To its end, also without the caller: half woken, the machine would stay paused.
        let waking = Arc::clone(&running);
        let waking = self
            .vm
            .0
            .environment()
            .runtime()
            .spawn(async move { waking.machine.wakeup().await });
        match waking.await {
            Ok(woken) => on_machine(self.vm, call, async { woken }).await?,
            Err(error) => return Err(LabError::host(self.vm.subject(), call, error)),
        }
        let limit = self.vm.0.environment().scale_timeout(WAKE_LIMIT);
        let ping = running.channel.ping();
        answers(
            self.vm,
            call,
            limit,
            ping,
            "the agent does not answer since",
        )
        .await
    }

    /// The address for a debugger, `host:port`; the same at each call, until the next boot.
    pub async fn gdb(self) -> Result<String, LabError> {
        let _lifecycle = self.vm.0.lifecycle().await;
        let call = "gdb()";
        let stage = self.vm.0.stage.borrow().clone();
        let Some(running) = stage.running() else {
            return Err(self.vm.0.wrong_state(call, &stage, "booted or paused"));
        };
        match running.machine.gdb().await {
            Ok(address) => Ok(address),
            Err(error) => Err(self
                .vm
                .0
                .explain(call, LabError::host(self.vm.subject(), call, error))
                .await),
        }
    }

    /// Pulls its plug: all its disks lose what is not durable at one instant, as far as `cut` says, and it is switched
    /// off. The disks of a machine that is off or dead have kept their power until now.
    ///
    /// # Errors
    /// When it was never booted; when the host cannot write to a disk.
    pub async fn power_cut(self, cut: PowerCut) -> Result<Vec<(String, PowerLoss)>, LabError> {
        let call = "power_cut()";
        let lifecycle = self.vm.0.lifecycle_to_end().await;
        let stage = self.vm.0.stage.borrow().clone();
        if matches!(stage, Stage::Created) || self.vm.0.is_closed() {
            let allowed = "booted, paused, shutdown or dead";
            return Err(self.vm.0.wrong_state(call, &stage, allowed));
        }
        let vm = self.vm.clone();
        let cutting = async move {
            if let Stage::Booted(running) = &stage {
                running.stop_monitor();
                // Paused, it writes to no disk while the others are cut. So it is if it has just ended by itself.
                let paused = switch_machine(&vm, call, running, VmState::Booted).await;
                if running.machine.ended().borrow().is_none() {
                    paused?;
                }
            }
            let cut = cut_disks(&vm, call, cut);
            switch_off(&vm, &lifecycle).await;
            cut
        };
        self.vm.0.uninterrupted(call, cutting).await
    }

    /// Switches it off. Does nothing if it is off.
    pub async fn shutdown(self) -> Result<(), LabError> {
        let lifecycle = self.vm.0.lifecycle_to_end().await;
        let vm = self.vm.clone();
        self.vm
            .0
            .uninterrupted("shutdown()", async move {
                switch_off(&vm, &lifecycle).await;
                Ok(())
            })
            .await
    }
}

/// Stops or continues the vCPUs. If the caller has stopped waiting by the time that is done, it is undone, and
/// the state is unchanged.
async fn switch(vm: &Vm, call: &'static str, from: VmState) -> Result<(), LabError> {
    let lifecycle = vm.0.lifecycle().await;
    let (answer, waiting) = oneshot::channel();
    let switching = vm.clone();
    vm.0.environment().runtime().spawn(async move {
        let vm = switching;
        let _lifecycle = lifecycle;
        let switched = match vm.0.running_in(call, from, from.word()) {
            Ok(running) => switch_machine(&vm, call, &running, from)
                .await
                .map(|()| running),
            Err(error) => Err(error),
        };
        let switched = match switched {
            Ok(running) if answer.is_closed() => {
                let undone = match from {
                    VmState::Paused => VmState::Booted,
                    _ => VmState::Paused,
                };
                return drop(switch_machine(&vm, call, &running, undone).await);
            }
            Ok(running) => {
                let now = Arc::clone(&running);
                let stage = match from {
                    VmState::Paused => Stage::Booted(now),
                    _ => Stage::Paused(now),
                };
                vm.0.replace_stage(&running, stage);
                // What was attached and detached while it was paused.
                match running.network_is_stale.load(Ordering::Acquire) && from == VmState::Paused {
                    true => reconcile_network(&vm, call, &running).await,
                    false => Ok(()),
                }
            }
            Err(error) => Err(error),
        };
        // A caller that is dropped after this finds the state that it asked for.
        let _ = answer.send(switched);
    });
    match waiting.await {
        Ok(switched) => switched,
        Err(error) => Err(LabError::host(vm.subject(), call, error)),
    }
}

async fn switch_machine(
    vm: &Vm,
    call: &str,
    running: &RunningMachine,
    from: VmState,
) -> Result<(), LabError> {
    match from {
        VmState::Paused => {
            *lock(&running.paused_disks) = None;
            on_machine(vm, call, running.machine.resume()).await
        }
        _ => {
            let drain = running.served_disks.drain();
            let paused = on_machine(vm, call, running.machine.pause()).await;
            if paused.is_ok() {
                drain.set_paused();
                *lock(&running.paused_disks) = Some(drain);
            }
            paused
        }
    }
}

async fn reset_here(vm: &Vm) -> Result<(), LabError> {
    let call = "reset()";
    let running = vm.0.running_in(call, VmState::Booted, "booted")?;
    // Before the guest looks for its disks.
    if let Err(error) = connect_lost_disks(vm, &running).await {
        let error = LabError::host(vm.subject(), call, error);
        return Err(vm.0.explain(call, error).await);
    }
    vm.0.begin_guest(GuestChange::Reset);
    vm.console().begin_boot();
    *lock(&running.pressed) = None;
    {
        let _drain = running.served_disks.drain();
        on_machine(vm, call, running.machine.reset()).await?;
    }
    // Not before: what ran until now must not write to them.
    vm.0.disks.power_on();
    match reconnect(vm, &running).await {
        Ok(()) => Ok(()),
        Err(how) => {
            running.stop_monitor();
            let report = die(vm, &running, format!("it was reset, then: {how}")).await;
            Err(report.error(vm.subject(), call.to_owned()))
        }
    }
}

/// An error while the guest sleeps (S3), when it would not see the request.
pub(crate) async fn check_awake(
    vm: &Vm,
    call: &str,
    running: &RunningMachine,
) -> Result<(), LabError> {
    match running.machine.is_suspended().await {
        Ok(false) => Ok(()),
        Ok(true) => {
            let why = "the guest sleeps (S3); wake it first, with wakeup()";
            Err(LabError::invalid(vm.subject(), call, why))
        }
        Err(error) => on_machine(vm, call, async { Err(error) }).await,
    }
}

/// Waits until the agent answers, for at most `limit`; `late` is the note of the error if it does not.
async fn answers<T, E: std::error::Error + Send + Sync + 'static>(
    vm: &Vm,
    call: &str,
    limit: Duration,
    answer: impl Future<Output = Result<T, E>>,
    late: &str,
) -> Result<(), LabError> {
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(vm
            .0
            .explain(call, LabError::host(vm.subject(), call, error))
            .await),
        Err(_) => Err(LabError::TimedOut {
            subject: vm.subject(),
            call: call.to_owned(),
            after: limit,
            note: format!("; {late}"),
        }),
    }
}

/// Cuts the power of all disks of a VM; what each has lost.
fn cut_disks(vm: &Vm, call: &str, cut: PowerCut) -> Result<Vec<(String, PowerLoss)>, LabError> {
    let mut losses = Vec::new();
    for disk in vm.0.disks.list() {
        let loss = disk.volume.disk().power_cut(cut);
        let loss = loss.map_err(|error| vm.0.disk_content().error(call, &disk.id, error.into()))?;
        losses.push((disk.id.to_string(), loss));
    }
    Ok(losses)
}

/// Switches the VM off, for a caller that holds its life-cycle lock.
pub(crate) async fn switch_off(vm: &Vm, _lifecycle: &Lifecycle) {
    let stage = vm.0.stage.borrow().clone();
    if let Some(running) = stage.running() {
        running.stop_monitor();
        shut_down(vm, running).await;
    }
}

/// Switches it off, to the state that it had before it was booted.
pub(crate) async fn switch_off_as(vm: &Vm, before: VmState, lifecycle: &Lifecycle) {
    switch_off(vm, lifecycle).await;
    let stage = match before {
        VmState::Created => Stage::Created,
        _ => Stage::Shutdown,
    };
    vm.0.stage.send_replace(stage);
}

async fn on_machine(
    vm: &Vm,
    call: &str,
    act: impl Future<Output = Result<(), VmmError>>,
) -> Result<(), LabError> {
    match act.await {
        Ok(()) => Ok(()),
        Err(error) => Err(vm
            .0
            .explain(call, LabError::host(vm.subject(), call, error))
            .await),
    }
}
