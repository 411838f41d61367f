//! What is done to a running machine: pause, resume, reset, power button, debugger, shutdown, close.
//!
//! What is begun here is not left half done when its caller stops waiting: `pause` and `resume` are
//! undone then, and the others go on to their end without it.

use crate::error::LabError;
use crate::lock::lock;
use crate::vm::handle::{Lifecycle, Stage, Vm, VmState};
use crate::vm::running::Running;
use provium_protocol::op::SetIdentity;
use provium_vmm::VmmError;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Why a guest that sleeps is as good as dead.
pub(crate) const S3_UNSUPPORTED: &str = "a guest that was started from an ELF kernel, as a bzImage is \
                                    unpacked to, cannot be woken from S3: QEMU would put the kernel \
                                    over its memory again (`s3 = true` in its profile starts it from \
                                    the bzImage)";

/// How long a guest's agent may take to answer once the guest is woken, before patience.
const WAKE_LIMIT: Duration = Duration::from_secs(30);

/// How long a guest that obeys its power button is waited for, before patience, and at most.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(5);
const POWER_OFF_LIMIT_AT_MOST: Duration = Duration::from_secs(15);

impl Vm {
    /// Stops its vCPUs.
    pub async fn pause(&self) -> Result<(), LabError> {
        self.switch("pause()", VmState::Booted).await
    }

    /// Lets its vCPUs go on.
    pub async fn resume(&self) -> Result<(), LabError> {
        self.switch("resume()", VmState::Paused).await
    }

    /// Stops vCPUs that run, or the other way round. If the caller has stopped waiting by the time that
    /// is done, it is undone, and the state has not changed.
    async fn switch(&self, call: &'static str, from: VmState) -> Result<(), LabError> {
        let lifecycle = self.lifecycle().await;
        let (answer, waiting) = oneshot::channel();
        let vm = self.clone();
        self.environment().runtime().spawn(async move {
            let _lifecycle = lifecycle;
            let switched = vm.switch_machine(call, from).await;
            let switched = match switched {
                Ok(running) if answer.is_closed() => {
                    let undone = match from {
                        VmState::Paused => running.machine.pause().await,
                        _ => running.machine.resume().await,
                    };
                    return drop(vm.on_machine(call, async { undone }).await);
                }
                Ok(running) => {
                    let now = Arc::clone(&running);
                    let stage = match from {
                        VmState::Paused => Stage::Booted(now),
                        _ => Stage::Paused(now),
                    };
                    vm.replace_stage(&running, stage);
                    Ok(())
                }
                Err(error) => Err(error),
            };
            // A caller that is gone by now finds the state that it asked for.
            let _ = answer.send(switched);
        });
        match waiting.await {
            Ok(switched) => switched,
            Err(error) => Err(LabError::host(self.subject(), call, error)),
        }
    }

    async fn switch_machine(&self, call: &str, from: VmState) -> Result<Arc<Running>, LabError> {
        let running = self.running_in(call, from, from.word())?;
        let switched = match from {
            VmState::Paused => self.on_machine(call, running.machine.resume()).await,
            _ => self.on_machine(call, running.machine.pause()).await,
        };
        switched.map(|()| running)
    }

    /// Resets the machine, as its button would; returns when the agent is back. What belonged to
    /// the guest before (workers, processes, files) is gone. A guest whose agent does not come back is
    /// dead.
    pub async fn reset(&self) -> Result<(), LabError> {
        let call = "reset()";
        let lifecycle = self.lifecycle().await;
        let (mut answer, waiting) = oneshot::channel();
        let (vm, mut give_up) = (self.clone(), self.0.give_up.subscribe());
        self.environment().runtime().spawn(async move {
            let _lifecycle = lifecycle;
            let done = tokio::select! {
                done = vm.reset_here() => done,
                // Its caller has stopped waiting, and the machine is to be ended: so has everybody.
                () = async {
                    answer.closed().await;
                    // The sender is the VM's.
                    let _ = give_up.changed().await;
                } => return,
            };
            // A caller that is gone by now has a VM that works, or is dead.
            let _ = answer.send(done);
        });
        match waiting.await {
            Ok(done) => done,
            Err(error) => Err(LabError::host(self.subject(), call, error)),
        }
    }

    async fn reset_here(&self) -> Result<(), LabError> {
        let call = "reset()";
        let running = self.running_in(call, VmState::Booted, "booted")?;
        lock(&self.0.timeline).boot();
        self.console().begin_boot();
        *lock(&running.pressed) = None;
        self.on_machine(call, running.machine.reset()).await?;
        match self.greet_again(&running).await {
            Ok(()) => Ok(()),
            Err(how) => {
                running.stop_watch();
                let report = self
                    .die(&running, format!("it was reset, then: {how}"))
                    .await;
                Err(report.error(self.subject(), call.to_owned()))
            }
        }
    }

    /// Presses the ACPI power button; returns once the guest is off, or when it has not obeyed for a few
    /// seconds. It stays booted then, and is shut down whenever it obeys.
    pub async fn power_button(&self) -> Result<(), LabError> {
        let call = "power_button()";
        let running = {
            let _lifecycle = self.lifecycle().await;
            let running = self.running_in(call, VmState::Booted, "booted")?;
            self.check_awake(call, &running).await?;
            // From here on, a guest that switches itself off does as it was told, and is not dead.
            *lock(&running.pressed) = Some(Instant::now());
            self.on_machine(call, running.machine.power_button())
                .await?;
            running
        };
        let limit = self.environment().scale_timeout(POWER_OFF_LIMIT);
        let mut stage = self.0.stage.subscribe();
        let moved_on = stage.wait_for(|stage| {
            let now = stage.running();
            now.is_none_or(|now| !Arc::ptr_eq(now, &running))
        });
        let limit = limit.min(POWER_OFF_LIMIT_AT_MOST);
        let moved_on = tokio::time::timeout(limit, moved_on).await;
        match moved_on {
            Ok(Ok(stage)) => match &*stage {
                Stage::Dead(report) => Err(report.error(self.subject(), call.to_owned())),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// An error while the guest sleeps (S3): it does not see what is asked of it.
    pub(crate) async fn check_awake(&self, call: &str, running: &Running) -> Result<(), LabError> {
        match running.machine.is_suspended().await {
            Ok(false) => Ok(()),
            Ok(true) => {
                let why = "the guest sleeps (S3); wake it first, with wakeup()";
                Err(LabError::invalid(self.subject(), call, why))
            }
            Err(error) => self.on_machine(call, async { Err(error) }).await,
        }
    }

    /// Runs `act` to its end, whether or not the caller waits for it.
    pub(crate) async fn to_its_end<T: Send + 'static>(
        &self,
        call: &str,
        act: impl Future<Output = Result<T, LabError>> + Send + 'static,
    ) -> Result<T, LabError> {
        match self.environment().runtime().spawn(act).await {
            Ok(done) => done,
            Err(error) => Err(LabError::host(self.subject(), call, error)),
        }
    }

    /// Wakes it from S3; returns when its agent answers again.
    pub async fn wakeup(&self) -> Result<(), LabError> {
        let _lifecycle = self.lifecycle().await;
        let call = "wakeup()";
        let running = self.running_in(call, VmState::Booted, "booted")?;
        if !running.machine.can_resume_from_s3() {
            return Err(LabError::invalid(self.subject(), call, S3_UNSUPPORTED));
        }
        match running.machine.is_suspended().await {
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
        let limit = self.environment().scale_timeout(WAKE_LIMIT);
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
        let _lifecycle = self.lifecycle().await;
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
        let lifecycle = self.lifecycle_to_end().await;
        let vm = self.clone();
        self.to_its_end("shutdown()", async move {
            vm.switch_off(&lifecycle).await;
            Ok(())
        })
        .await
    }

    /// The same, for a caller that holds its life-cycle lock.
    pub(crate) async fn switch_off(&self, _lifecycle: &Lifecycle) {
        let stage = self.0.stage.borrow().clone();
        if let Some(running) = stage.running() {
            self.end(running).await;
        }
    }

    /// Switches it off, to the state in which it was when it had not been booted yet.
    pub(crate) async fn switch_off_as(&self, before: VmState, lifecycle: &Lifecycle) {
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
    pub(crate) fn replace_stage(&self, running: &Arc<Running>, next: Stage) -> bool {
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

    /// The identity of the guest after a reboot, which is made when the agent has answered, and how long
    /// that may take.
    pub(crate) fn reboot_terms(&self) -> (impl FnOnce() -> SetIdentity + Send + 'static, Duration) {
        let options = lock(&self.0.booted_with).clone();
        let limit = self.agent_limit(&options);
        let vm = self.clone();
        (move || vm.identity(&options).request(), limit)
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
            Stage::Dead(report) => report.error(self.subject(), call.to_owned()),
            _ => LabError::gone(self.subject(), call, "the VM was shut down meanwhile"),
        }
    }
}
