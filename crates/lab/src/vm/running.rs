//! A machine with its agent's session, and the watch over its life.
//!
//! While a VM runs, a task listens to everything that can end it: QEMU's process, QEMU's events, the
//! agent's channel, and words on the console that suggest a panic or a halt, which a ping that goes
//! unanswered confirms. Whatever comes first makes the VM *dead*, closes the channel (so that every
//! call in flight fails at once) and keeps the console.

use crate::answer::{LAST_WORDS, NoAnswer, answer_of, last_word, told};
use crate::budget::Grant;
use crate::error::LabError;
use crate::lock::lock;
use crate::saved::Base;
use crate::vm::handle::{Stage, Vm};
use crate::vm::power::NO_WAKING;
use crate::vm::timeline::Mark;
use provium_events::{BootKind, Event};
use provium_guest::{After, Channel, LaneHandle};
use provium_protocol::Lane;
use provium_vmm::{Machine, MachineEvent, Suspicion};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

/// How much of the console goes into an error, bytes.
const CONSOLE_SHOWN: usize = 1024;

/// How long an agent may take to answer before a suspicion counts as confirmed, before patience.
const CONFIRMATION: Duration = Duration::from_secs(1);

/// A VM that runs.
pub(crate) struct Running {
    pub(crate) machine: Machine,
    pub(crate) channel: Channel,
    pub(crate) number: MachineNumber,
    /// How it came to be.
    pub(crate) boot_kind: BootKind,
    /// Whose RAM it shares.
    pub(crate) base: Option<Arc<Base>>,
    pub(crate) cid: u32,
    pub(crate) booted_at: Instant,
    pub(crate) boot_time: Duration,
    pub(crate) grant: Mutex<Option<Grant>>,
    pub(crate) watch: Mutex<Option<AbortHandle>>,
}

/// Tells apart the machines that a VM runs on in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MachineNumber(u64);

impl MachineNumber {
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What a call needs to talk to the guest.
pub(crate) struct Session {
    pub(crate) running: Arc<Running>,
    pub(crate) mark: Mark,
}

impl Session {
    pub(crate) fn lane(&self, lane: Lane) -> LaneHandle {
        self.running.channel.lane(lane)
    }
}

/// How a VM died.
#[derive(Debug)]
pub(crate) struct Obituary {
    how: String,
    console: String,
}

impl Obituary {
    pub(crate) fn error(&self, subject: String, call: String) -> LabError {
        LabError::Dead {
            subject,
            call,
            how: self.how.clone(),
            console: self.console.clone(),
        }
    }
}

impl Running {
    /// Gives memory and processors back.
    pub(crate) fn release(&self) {
        drop(lock(&self.grant).take());
    }

    pub(crate) fn stop_watch(&self) {
        let watch = lock(&self.watch).take();
        if let Some(watch) = watch {
            watch.abort();
        }
    }
}

impl Vm {
    /// Starts the watch over a VM that has just booted.
    pub(crate) fn watch_over(&self, running: &Arc<Running>) {
        let task = watch(self.clone(), Arc::clone(running));
        let handle = self.environment().runtime().spawn(task).abort_handle();
        *lock(&running.watch) = Some(handle);
    }

    /// How the guest ended, with the kernel's own reason where it panicked.
    pub(crate) fn with_reason(&self, how: String) -> String {
        match self.console().panic_reason() {
            Some(reason) => format!("{how}: {reason}"),
            None => how,
        }
    }

    /// The end of the console, for an error.
    pub(crate) fn console_tail(&self) -> String {
        self.console().tail(CONSOLE_SHOWN)
    }

    /// Tells that a VM of `running` is no more.
    pub(crate) fn emit_shutdown(&self, running: &Running) {
        let elapsed = running.booted_at.elapsed();
        self.environment().sink().emit(Event::VmShutdown {
            file: self.0.file.path.clone(),
            vm_name: self.name().to_owned(),
            duration_ns: u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX),
        });
    }
}

async fn watch(vm: Vm, running: Arc<Running>) {
    let how = how_it_ends(&vm, &running).await;
    let elapsed = running.booted_at.elapsed().as_secs_f64();
    let how = vm.with_reason(format!("{elapsed:.1} s after its boot: {how}"));
    running.machine.quit().await;
    running.release();
    let obituary = Arc::new(Obituary {
        how,
        console: vm.console_tail(),
    });
    let died = vm.0.stage.send_if_modified(|stage| {
        let ours = stage
            .running()
            .is_some_and(|now| Arc::ptr_eq(now, &running));
        if ours {
            *stage = Stage::Dead(obituary);
        }
        ours
    });
    if died {
        vm.emit_shutdown(&running);
    }
    running.channel.shut_down("the VM is dead");
}

/// Something that may be the end.
enum Sign {
    Ended,
    ChannelClosed,
    Event(MachineEvent),
    Suspicion(Suspicion),
}

/// Waits for the end of the guest, and says what it was.
async fn how_it_ends(vm: &Vm, running: &Running) -> String {
    let mut ended = running.machine.ended();
    let mut closed = running.channel.closed();
    let mut events = running.machine.events();
    loop {
        let sign = tokio::select! {
            biased;
            _ = ended.wait_for(Option::is_some) => Sign::Ended,
            _ = closed.wait_for(Option::is_some) => Sign::ChannelClosed,
            Ok(event) = events.recv() => Sign::Event(event),
            suspicion = running.machine.suspicion() => Sign::Suspicion(suspicion),
        };
        match sign {
            Sign::Ended => return told(&ended, "QEMU ended"),
            Sign::ChannelClosed => {
                // An agent's channel also closes because QEMU ends: that tells more.
                let end = ended.wait_for(Option::is_some);
                if matches!(tokio::time::timeout(LAST_WORDS, end).await, Ok(Ok(_))) {
                    return told(&ended, "QEMU ended");
                }
                return format!(
                    "its agent is gone: {}",
                    told(&closed, "the channel is closed")
                );
            }
            Sign::Event(MachineEvent::Rebooted) => {
                if let Err(how) = meet_again(vm, running).await {
                    return how;
                }
            }
            Sign::Event(MachineEvent::Suspended) if !running.machine.can_wake() => {
                return format!("the guest went to sleep; {NO_WAKING}");
            }
            Sign::Event(_) => {}
            Sign::Suspicion(suspicion) => {
                let limit = vm.environment().patient(CONFIRMATION);
                let answer = tokio::time::timeout(limit, running.channel.ping());
                let answers = tokio::select! {
                    biased;
                    () = async { drop(ended.wait_for(Option::is_some).await) } => false,
                    answer = answer => matches!(answer, Ok(Ok(_))),
                };
                if answers {
                    continue;
                }
                return last_word(&running.machine, &suspicion).await;
            }
        }
    }
}

/// The guest rebooted by itself: what belonged to it before is gone, and its agent comes back.
async fn meet_again(vm: &Vm, running: &Running) -> Result<(), String> {
    lock(&vm.0.timeline).boot();
    vm.console().begin_boot();
    let (hello, limit) = vm.reboot_terms();
    running.machine.forget_suspicions().await;
    let back = running.channel.resync(hello, After::Reboot);
    match answer_of(&running.machine, limit, back).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("the guest rebooted: {error}")),
        Err(NoAnswer::Ended(how)) => Err(format!("the guest rebooted, then: {how}")),
        Err(NoAnswer::Late) => Err(format!(
            "the guest rebooted, and its agent was not back within {limit:?}"
        )),
    }
}
