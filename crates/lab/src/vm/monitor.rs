//! The monitor of a VM: watches for the end of its guest.
//!
//! While a VM runs, a task listens to everything that can end it:
//!
//! | event | consequence |
//! |---|---|
//! | QEMU exits or sends an event of the guest's end | the VM is dead |
//! | the agent's channel closes | dead; QEMU's exit, if it follows, is the reason |
//! | the guest closes the agent's port | dead, unless it opens it again, resets or switches itself off |
//! | a failure hint on the console (panic, halt) | dead, if the agent does not answer a ping |
//! | the guest's kernel panics | dead, or with `on_panic = "reboot"` its agent is awaited after a reset |
//! | the agent does not answer pings | dead, after two of them |
//! | the guest resets the machine | its agent is awaited, for as long as a boot may take |
//!
//! When the VM dies, the channel is closed, so that every call in flight fails at once; the console is kept.
//! A guest that powers off after its power button was pressed is not dead but shut down.
//!
//! What the harness does to the VM itself (a reset, a restore) is not watched: the caller holds the
//! life-cycle lock, and waits for the agent under a limit of its own.

use crate::guest::wait::{exit_reason, machine_end, watched_text};
use crate::lock::lock;
use crate::resource::GuestChange;
use crate::vm::death::{die, shut_down};
use crate::vm::handle::Vm;
use crate::vm::panic::{Restart, restart};
use crate::vm::power::S3_UNSUPPORTED;
use crate::vm::reconnect::reconnect;
use crate::vm::running::RunningMachine;
use crate::vm::state::{Lifecycle, VmState};
use crate::vm_options::OnPanic;
use provium_guest::ChannelError;
use provium_vmm::{Death, DeathKind, FailureHint, MachineEvent};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{broadcast, watch};

/// How long an agent may take to answer before a failure hint counts as confirmed, before the
/// timeout multiplier.
const CONFIRMATION: Duration = Duration::from_secs(1);

/// Interval between two pings of an agent that answers.
const PING_INTERVAL: Duration = Duration::from_secs(3);

/// How long an agent may take to answer a ping, before the timeout multiplier, and the bounds of that. A
/// guest under load answers within a second; one whose QEMU or host is stopped for some seconds is not dead.
const PING_LIMIT: Duration = Duration::from_secs(3);
const PING_LIMITS: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(20)];

/// After this number of unanswered pings in a row, a VM counts as dead.
const PINGS: u32 = 2;

/// How long a guest that closed the agent's port may take to reset or to switch itself off, at least: an
/// init kills all processes, then waits a second or two, before it does either.
const PORT_GRACE: Duration = Duration::from_secs(5);

/// How long a guest whose power button was pressed may be without an agent, before the timeout multiplier:
/// it is shutting down.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(60);

/// Starts the monitor of a VM that has just booted.
pub(super) fn monitor(vm: &Vm, running: &Arc<RunningMachine>) {
    let task = watch(vm.clone(), Arc::clone(running));
    let handle = vm.0.environment().runtime().spawn(task).abort_handle();
    *lock(&running.monitor) = Some(handle);
}

impl RunningMachine {
    /// Whether its guest may be shutting down because its power button was pressed.
    fn is_shutting_down(&self, grace: Duration) -> bool {
        lock(&self.pressed).is_some_and(|pressed| pressed.elapsed() < grace)
    }
}

async fn watch(vm: Vm, running: Arc<RunningMachine>) {
    let end = Monitor::new(&vm, &running).until_the_end().await;
    let was_pressed = lock(&running.pressed).is_some();
    match end {
        // The guest obeyed its power button.
        End::Off(_) if was_pressed => shut_down(&vm, &running).await,
        End::Off(how) | End::Death(how) => drop(die(&vm, &running, how).await),
    }
}

/// How it ends.
enum End {
    /// The guest switched itself off.
    Off(String),
    Death(String),
}

impl End {
    /// That of a machine, as far as it has ended.
    fn of(ended: &watch::Receiver<Option<Death>>, how: String) -> Self {
        let kind = ended.borrow().as_ref().map(|death| death.kind);
        match kind {
            Some(DeathKind::PoweredOff) => Self::Off(how),
            _ => Self::Death(how),
        }
    }
}

/// Something that may be the end of the guest.
enum LivenessEvent {
    Ended,
    ChannelClosed,
    Event(MachineEvent),
    /// The agent announced itself in the middle of a session.
    Announced,
    PortStaysClosed,
    FailureHint(FailureHint),
    Silence(Duration),
}

/// What the monitor does about an event.
enum Reaction {
    /// It continues to watch.
    None,
    /// The agent has a new session: what was observed of the last one does not count.
    NewSession,
    End(End),
}

impl Reaction {
    /// After an attempt to get a new session; its error is the way in which the guest has ended.
    fn of(reconnected: Result<(), String>) -> Self {
        match reconnected {
            Ok(()) => Self::NewSession,
            Err(how) => Self::End(End::Death(how)),
        }
    }
}

struct Monitor<'a> {
    vm: &'a Vm,
    running: &'a RunningMachine,
    /// Its vCPUs do not run: paused, held by a debugger, or asleep.
    is_stopped: AtomicBool,
}

impl<'a> Monitor<'a> {
    fn new(vm: &'a Vm, running: &'a RunningMachine) -> Self {
        Self {
            vm,
            running,
            is_stopped: AtomicBool::new(false),
        }
    }

    /// Waits for the end of the guest, and returns its kind.
    async fn until_the_end(&self) -> End {
        let running = self.running;
        let mut ended = running.machine.ended();
        let mut closed = running.channel.closed();
        let mut events = running.machine.events();
        let mut announcements = running.channel.announcements();
        announcements.mark_unchanged();
        let mut port_closed: Option<Instant> = None;
        let mut silence = pin!(self.silence());
        loop {
            let event = tokio::select! {
                biased;
                _ = ended.wait_for(Option::is_some) => LivenessEvent::Ended,
                _ = closed.wait_for(Option::is_some) => LivenessEvent::ChannelClosed,
                Ok(event) = events.recv() => LivenessEvent::Event(event),
                Ok(()) = announcements.changed() => LivenessEvent::Announced,
                hint = running.machine.failure_hint() => LivenessEvent::FailureHint(hint),
                () = self.grace_of(port_closed) => LivenessEvent::PortStaysClosed,
                silent = &mut silence => LivenessEvent::Silence(silent),
            };
            let reaction = match event {
                LivenessEvent::Ended => {
                    Reaction::End(End::of(&ended, watched_text(&ended, "QEMU ended")))
                }
                LivenessEvent::ChannelClosed => {
                    let reason = watched_text(&closed, "the channel is closed");
                    Reaction::End(self.end_of_channel(&ended, &reason).await)
                }
                LivenessEvent::Event(MachineEvent::PortClosed) => {
                    port_closed = Some(Instant::now());
                    Reaction::None
                }
                LivenessEvent::Event(MachineEvent::PortOpened | MachineEvent::Reset) => {
                    port_closed = None;
                    Reaction::None
                }
                LivenessEvent::Event(MachineEvent::Rebooted) => {
                    Reaction::of(self.reconnect_after_reboot().await)
                }
                LivenessEvent::Announced => match self.reboot_unseen() {
                    Some(_lifecycle) => Reaction::of(self.reconnect_after_reboot().await),
                    None => Reaction::None,
                },
                LivenessEvent::Event(MachineEvent::Panicked) => {
                    Reaction::of(self.restart(&mut events).await)
                }
                LivenessEvent::Event(MachineEvent::Suspended)
                    if !running.machine.can_resume_from_s3() =>
                {
                    let how = format!("the guest went to sleep; {S3_UNSUPPORTED}");
                    Reaction::End(End::Death(how))
                }
                LivenessEvent::Event(event) => {
                    self.follow(event);
                    Reaction::None
                }
                LivenessEvent::PortStaysClosed => {
                    port_closed = None;
                    self.react_to_closed_port()
                }
                LivenessEvent::FailureHint(hint) => {
                    self.react_to_hint(hint, &mut ended, &mut events).await
                }
                LivenessEvent::Silence(silent) => Reaction::End(self.end_by_silence(silent)),
            };
            match reaction {
                Reaction::None => {}
                Reaction::NewSession => {
                    port_closed = None;
                    announcements.mark_unchanged();
                    silence.set(self.silence());
                }
                Reaction::End(end) => return end,
            }
        }
    }

    /// The end of a guest whose agent's channel was closed, for this reason.
    async fn end_of_channel(&self, ended: &watch::Receiver<Option<Death>>, reason: &str) -> End {
        // An agent's channel also closes when QEMU exits, which is the more precise reason.
        let how = match machine_end(&self.running.machine).await {
            Some(end) => end,
            None => format!("its agent is gone: {reason}"),
        };
        End::of(ended, how)
    }

    fn react_to_closed_port(&self) -> Reaction {
        if self.is_at_work() {
            return Reaction::None;
        }
        Reaction::End(End::Death(
            "its agent is gone: the guest closed the agent's port (the agent was killed, or its driver \
             removed)"
                .to_owned(),
        ))
    }

    /// A line on the console suggests that the guest has ended. Its agent is asked, since any program can print
    /// such a line.
    async fn react_to_hint(
        &self,
        hint: FailureHint,
        ended: &mut watch::Receiver<Option<Death>>,
        events: &mut broadcast::Receiver<MachineEvent>,
    ) -> Reaction {
        let limit = self.vm.0.environment().scale_timeout(CONFIRMATION);
        let answer = tokio::time::timeout(limit, self.running.channel.ping());
        let answers = tokio::select! {
            biased;
            () = async { drop(ended.wait_for(Option::is_some).await) } => false,
            answer = answer => matches!(answer, Ok(Ok(_))),
        };
        if answers {
            return Reaction::None;
        }
        let is_over = ended.borrow().is_some();
        if hint == FailureHint::Panicked && self.reboots_on_panic() && !is_over {
            // A kernel without a driver for pvpanic.
            return Reaction::of(self.restart(events).await);
        }
        let how = exit_reason(&self.running.machine, &hint).await;
        let kind = ended.borrow().as_ref().map(|death| death.kind);
        Reaction::End(match (kind, hint) {
            (Some(DeathKind::PoweredOff), _) | (None, FailureHint::PoweredDown) => End::Off(how),
            _ => End::Death(how),
        })
    }

    fn end_by_silence(&self, silent: Duration) -> End {
        let silent = silent.as_secs();
        let why = match self.running.machine.is_stopped() {
            true => "; its QEMU is stopped (SIGSTOP?)",
            false => "",
        };
        End::Death(format!("its agent has not answered for {silent} s{why}"))
    }

    fn follow(&self, event: MachineEvent) {
        match event {
            MachineEvent::Paused | MachineEvent::Suspended => {
                self.is_stopped.store(true, Ordering::Relaxed);
            }
            MachineEvent::Resumed | MachineEvent::Woken => {
                self.is_stopped.store(false, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// Waits until a guest that closed the agent's port has had the time to reset or to open it again.
    async fn grace_of(&self, closed: Option<Instant>) {
        let Some(closed) = closed else {
            return std::future::pending().await;
        };
        let environment = self.vm.0.environment();
        let grace = PORT_GRACE.max(environment.scale_timeout(CONFIRMATION));
        tokio::time::sleep_until((closed + grace).into()).await;
        // A guest that is shutting down may take longer.
        let pressed = *lock(&self.running.pressed);
        if let Some(pressed) = pressed {
            let until = pressed + environment.scale_timeout(SHUTDOWN_GRACE);
            tokio::time::sleep_until(until.into()).await;
        }
    }

    /// Whether the harness itself is operating on the machine, or has paused it.
    fn is_at_work(&self) -> bool {
        self.vm.0.lifecycle.try_lock().is_err() || self.is_stopped()
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed) || self.vm.state() == VmState::Paused
    }

    /// Pings the agent periodically; returns when it does not answer, with the time since its last answer.
    async fn silence(&self) -> Duration {
        let environment = self.vm.0.environment();
        let [least, most] = PING_LIMITS;
        let limit = environment.scale_timeout(PING_LIMIT).clamp(least, most);
        let grace = environment.scale_timeout(SHUTDOWN_GRACE);
        let mut heard = Instant::now();
        let mut missed = 0;
        loop {
            tokio::time::sleep(PING_INTERVAL).await;
            let answer = if self.is_at_work() {
                true
            } else {
                let asked = Instant::now();
                let ping = tokio::time::timeout(limit, self.running.channel.ping()).await;
                let answers = matches!(ping, Ok(Ok(_)));
                if !answers {
                    // Without a session a ping fails at once, and is not repeated at once.
                    tokio::time::sleep_until((asked + limit).into()).await;
                }
                answers
            };
            if answer || self.is_at_work() || self.running.is_shutting_down(grace) {
                (heard, missed) = (Instant::now(), 0);
                continue;
            }
            missed += 1;
            if missed == PINGS {
                return heard.elapsed();
            }
        }
    }

    /// The right to greet an agent that has announced itself in the middle of a session: the guest has
    /// rebooted, and QEMU's event was taken for an echo. `None` if another task greets it.
    fn reboot_unseen(&self) -> Option<Lifecycle> {
        let lifecycle = Arc::clone(&self.vm.0.lifecycle).try_lock_owned().ok()?;
        let reason = self.running.channel.reason()?;
        matches!(*reason, ChannelError::Rebooted).then_some(lifecycle)
    }

    fn reboots_on_panic(&self) -> bool {
        lock(&self.vm.0.booted_with).on_panic == Some(OnPanic::Reboot)
    }

    /// The guest's kernel has panicked, and it is to boot again.
    async fn restart(&self, events: &mut broadcast::Receiver<MachineEvent>) -> Result<(), String> {
        let reason = self.vm.console().panic_reason();
        let restarted = async {
            match restart(self.vm, self.running, events).await? {
                Restart::Call => Ok(()),
                Restart::Guest => self.reconnect_after_reboot().await,
                Restart::Host(_lifecycle) => self.reconnect_after_reboot().await,
            }
        };
        restarted.await.map_err(|how: String| match reason {
            Some(reason) => format!("its kernel panicked ({reason}), then: {how}"),
            None => format!("its kernel panicked, then: {how}"),
        })
    }

    /// The guest rebooted by itself: what belonged to it before is gone, and its agent comes back.
    async fn reconnect_after_reboot(&self) -> Result<(), String> {
        let (vm, running) = (self.vm, self.running);
        vm.0.begin_guest(GuestChange::Reboot);
        vm.console().begin_boot();
        *lock(&running.pressed) = None;
        running.machine.clear_failure_hints().await;
        reconnect(vm, running)
            .await
            .map_err(|how| format!("the guest rebooted, then: {how}"))
    }
}
