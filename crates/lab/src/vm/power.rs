//! What is done to a running machine: pause, resume, reset, power button, debugger, shutdown, close.

use crate::error::LabError;
use crate::lock::lock;
use crate::vm::handle::{Stage, Vm, VmState};
use crate::vm::running::Running;
use provium_guest::After;
use provium_protocol::message::HostHello;
use provium_vmm::VmmError;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::MutexGuard;

/// Why a guest that sleeps is as good as dead.
pub(crate) const NO_WAKING: &str = "a guest that was started from an ELF kernel, as a bzImage is \
                                    unpacked to, cannot be woken from S3: QEMU would put the kernel \
                                    over its memory again (`s3 = true` in its profile starts it from \
                                    the bzImage)";

/// How long a guest's agent may take to answer once the guest is woken, before patience.
const WAKE_LIMIT: Duration = Duration::from_secs(30);

/// How long a guest may take to switch itself off, before patience.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(30);

impl Vm {
    /// Stops its vCPUs.
    pub async fn pause(&self) -> Result<(), LabError> {
        let _lifecycle = self.0.lifecycle.lock().await;
        let running = self.running_in("pause()", VmState::Booted, "booted")?;
        self.on_machine("pause()", running.machine.pause()).await?;
        self.replace_stage(&running, Stage::Paused(Arc::clone(&running)));
        Ok(())
    }

    /// Lets its vCPUs go on.
    pub async fn resume(&self) -> Result<(), LabError> {
        let _lifecycle = self.0.lifecycle.lock().await;
        let running = self.running_in("resume()", VmState::Paused, "paused")?;
        self.on_machine("resume()", running.machine.resume())
            .await?;
        self.replace_stage(&running, Stage::Booted(Arc::clone(&running)));
        Ok(())
    }

    /// Resets the machine, as its button would; returns when the agent is back. What belonged to
    /// the guest before (workers, processes, files) is gone.
    pub async fn reset(&self) -> Result<(), LabError> {
        let call = "reset()";
        let _lifecycle = self.0.lifecycle.lock().await;
        let running = self.running_in(call, VmState::Booted, "booted")?;
        lock(&self.0.timeline).boot();
        self.console().begin_boot();
        self.on_machine(call, running.machine.reset()).await?;
        let (hello, limit) = self.reboot_terms();
        let back = running.channel.resync(hello, After::Reboot);
        self.answers(call, limit, back, "the agent did not come back")
            .await
    }

    /// Presses the ACPI power button; returns once the guest is off.
    pub async fn power_button(&self) -> Result<(), LabError> {
        let call = "power_button()";
        let _lifecycle = self.0.lifecycle.lock().await;
        let running = self.running_in(call, VmState::Booted, "booted")?;
        // From here on, the machine's end is what was asked for, and no death.
        running.stop_watch();
        let pressed = self.on_machine(call, running.machine.power_button()).await;
        let mut ended = running.machine.ended();
        let limit = self.environment().patient(POWER_OFF_LIMIT);
        let off = tokio::time::timeout(limit, ended.wait_for(Option::is_some))
            .await
            .is_ok();
        if let (Ok(()), false) = (&pressed, off) {
            self.watch_over(&running);
            return Err(LabError::TimedOut {
                subject: self.subject(),
                call: call.to_owned(),
                after: limit,
                note: "; the guest does not act on its power button (no ACPI daemon or handler?)"
                    .to_owned(),
            });
        }
        self.end(&running).await;
        pressed
    }

    /// Wakes it from S3; returns when its agent answers again.
    pub async fn wakeup(&self) -> Result<(), LabError> {
        let _lifecycle = self.0.lifecycle.lock().await;
        let call = "wakeup()";
        let running = self.running_in(call, VmState::Booted, "booted")?;
        if !running.machine.can_wake() {
            return Err(LabError::invalid(self.subject(), call, NO_WAKING));
        }
        match running.machine.sleeps().await {
            Ok(true) => {}
            Ok(false) => {
                let why = "the guest does not sleep (S3)";
                return Err(LabError::invalid(self.subject(), call, why));
            }
            Err(error) => return self.on_machine(call, async { Err(error) }).await,
        }
        // To its end, whoever waits for it: half woken, the machine would stand still.
        let waking = Arc::clone(&running);
        let waking = self
            .environment()
            .runtime()
            .spawn(async move { waking.machine.wakeup().await });
        match waking.await {
            Ok(woken) => self.on_machine(call, async { woken }).await?,
            Err(error) => return Err(LabError::host(self.subject(), call, error)),
        }
        let limit = self.environment().patient(WAKE_LIMIT);
        let ping = running.channel.ping();
        self.answers(call, limit, ping, "the agent does not answer since")
            .await
    }

    /// Waits until the agent answers, for at most `limit`; `late` is told if it has not by then.
    async fn answers<T, E: std::error::Error + Send + Sync + 'static>(
        &self,
        call: &str,
        limit: Duration,
        answer: impl Future<Output = Result<T, E>>,
        late: &str,
    ) -> Result<(), LabError> {
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self
                .explain(call, LabError::host(self.subject(), call, error))
                .await),
            Err(_) => Err(LabError::TimedOut {
                subject: self.subject(),
                call: call.to_owned(),
                after: limit,
                note: format!("; {late}"),
            }),
        }
    }

    /// Where a debugger finds it, `host:port`; the same at each call, until it is booted anew.
    pub async fn gdb(&self) -> Result<String, LabError> {
        let _lifecycle = self.0.lifecycle.lock().await;
        let call = "gdb()";
        let stage = self.0.stage.borrow().clone();
        let Some(running) = stage.running() else {
            return Err(self.wrong_state(call, &stage, "booted or paused"));
        };
        match running.machine.gdb().await {
            Ok(address) => Ok(address),
            Err(error) => Err(self
                .explain(call, LabError::host(self.subject(), call, error))
                .await),
        }
    }

    /// Switches it off. Off already is fine.
    pub async fn shutdown(&self) -> Result<(), LabError> {
        let lifecycle = self.0.lifecycle.lock().await;
        self.switch_off(&lifecycle).await;
        Ok(())
    }

    /// The same, for whoever holds its life-cycle lock.
    pub(crate) async fn switch_off(&self, _lifecycle: &MutexGuard<'_, ()>) {
        let stage = self.0.stage.borrow().clone();
        if let Some(running) = stage.running() {
            self.end(running).await;
        }
    }

    /// Switches it off, to the state in which it was when it had not been booted yet.
    pub(crate) async fn switch_off_as(&self, before: VmState, lifecycle: &MutexGuard<'_, ()>) {
        self.switch_off(lifecycle).await;
        let stage = match before {
            VmState::Created => Stage::Created,
            _ => Stage::Shutdown,
        };
        self.0.stage.send_replace(stage);
    }

    /// Switches it off for good and leaves its scope.
    pub async fn close(&self) -> Result<(), LabError> {
        self.0.closed.store(true, Ordering::Release);
        self.shutdown().await?;
        self.leave_scope();
        Ok(())
    }

    /// Ends the machine on purpose.
    async fn end(&self, running: &Arc<Running>) {
        running.stop_watch();
        let ours = self.replace_stage(running, Stage::Shutdown);
        running.channel.shut_down("the VM was shut down");
        running.machine.quit().await;
        running.release();
        if ours {
            self.emit_shutdown(running);
        }
    }

    /// Moves on from the stage that `running` is in; false if it has moved on by itself.
    fn replace_stage(&self, running: &Arc<Running>, next: Stage) -> bool {
        self.0.stage.send_if_modified(|stage| {
            let ours = stage.running().is_some_and(|now| Arc::ptr_eq(now, running));
            if ours {
                *stage = next;
            }
            ours
        })
    }

    pub(crate) fn running_in(
        &self,
        call: &str,
        state: VmState,
        allowed: &'static str,
    ) -> Result<Arc<Running>, LabError> {
        let stage = self.0.stage.borrow().clone();
        match stage.running() {
            Some(running) if stage.state() == state => Ok(Arc::clone(running)),
            _ => Err(self.wrong_state(call, &stage, allowed)),
        }
    }

    /// What an agent that comes up again is told, and how long it may take.
    pub(crate) fn reboot_terms(&self) -> (HostHello, Duration) {
        let options = lock(&self.0.booted_with).clone();
        (self.hello(&options), self.agent_limit(&options))
    }

    async fn on_machine(
        &self,
        call: &str,
        act: impl Future<Output = Result<(), VmmError>>,
    ) -> Result<(), LabError> {
        match act.await {
            Ok(()) => Ok(()),
            Err(error) => Err(self
                .explain(call, LabError::host(self.subject(), call, error))
                .await),
        }
    }

    /// A failure of machine or channel, told as the VM's end where that is what it was.
    pub(crate) async fn explain(&self, call: &str, error: LabError) -> LabError {
        let mut stage = self.0.stage.subscribe();
        let ended = stage.wait_for(|stage| stage.running().is_none());
        let Ok(Ok(stage)) = tokio::time::timeout(Duration::from_secs(2), ended).await else {
            return error;
        };
        match &*stage {
            Stage::Dead(obituary) => obituary.error(self.subject(), call.to_owned()),
            _ => LabError::gone(self.subject(), call, "the VM was shut down meanwhile"),
        }
    }
}
