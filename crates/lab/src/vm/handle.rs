//! The handle of a VM: its names, its state, and what hangs on it.

use crate::environment::Environment;
use crate::error::LabError;
use crate::graph::scope::{Close, CloseOrder, Closing, GuestKey, Registration, ResourceId, Scope};
use crate::graph::test_file::TestFileContext;
use crate::guest::clock::Clock;
use crate::guest::console::Console;
use crate::guest::file::Files;
use crate::guest::process::Processes;
use crate::guest::stream::OpenStreams;
use crate::guest::surface::Surface;
use crate::guest::worker::Workers;
use crate::lock::lock;
use crate::profile::Profile;
use crate::vm::options::VmOptions;
use crate::vm::running::{DeathReport, MachineNumber, Running, Session};
use crate::vm::timeline::{Mark, Past, Timeline};
use provium_events::BootKind;
use provium_guest::Channel;
use provium_protocol::message::GuestStats;
use provium_protocol::op::Stats;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, watch};

/// A VM.
#[derive(Clone)]
pub struct Vm(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) id: ResourceId,
    pub(crate) name: String,
    pub(crate) profile: Arc<Profile>,
    pub(crate) options: VmOptions,
    /// What its last boot was given, with `options` below.
    pub(crate) booted_with: Mutex<VmOptions>,
    pub(crate) file: Arc<TestFileContext>,
    pub(crate) stage: watch::Sender<Stage>,
    /// Held by every call that changes the stage on purpose: boot, pause, shutdown…
    pub(crate) lifecycle: Arc<AsyncMutex<()>>,
    /// Counts the calls for which a reset that nobody waits for any more is to be given up.
    pub(crate) give_up: watch::Sender<u64>,
    pub(crate) console: Console,
    pub(crate) open_files: Arc<AtomicUsize>,
    pub(crate) open_streams: Arc<OpenStreams>,
    pub(crate) processes: Processes,
    pub(crate) files: Files,
    pub(crate) workers: Workers,
    /// How much of the console the error of a failed boot has accounted for, bytes.
    pub(crate) reported: AtomicU64,
    pub(crate) timeline: Mutex<Timeline>,
    pub(crate) closed: AtomicBool,
    /// What it is a copy of.
    original: Option<Vm>,
    place: Registration,
}

/// The right to change a VM's stage.
pub(crate) type Lifecycle = OwnedMutexGuard<()>;

/// Where a VM is in its life, with what belongs to it there.
#[derive(Clone)]
pub(crate) enum Stage {
    Created,
    Booted(Arc<Running>),
    Paused(Arc<Running>),
    Shutdown,
    Dead(Arc<DeathReport>),
}

/// Where a VM is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VmState {
    /// Never booted.
    Created,
    /// Its agent answers.
    Booted,
    /// Its vCPUs stand still.
    Paused,
    /// Off, on purpose.
    Shutdown,
    /// QEMU or the guest ended on its own.
    Dead,
}

impl VmState {
    /// `created`, `booted`, `paused`, `shutdown` or `dead`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Booted => "booted",
            Self::Paused => "paused",
            Self::Shutdown => "shutdown",
            Self::Dead => "dead",
        }
    }
}

impl fmt::Display for VmState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Figures about a booted VM.
#[derive(Debug, Clone)]
pub struct VmStats {
    /// Processor time that QEMU has used.
    pub cpu_time: Duration,
    /// Host memory that QEMU holds, bytes.
    pub resident_bytes: u64,
    /// That memory, but what is shared with other processes counts as its share, bytes.
    pub proportional_bytes: u64,
    /// How it came to be: booted cold, from a template, or restored.
    pub boot_kind: BootKind,
    /// From the call of `boot` to the agent's answer.
    pub boot_time: Duration,
    /// What the guest says.
    pub guest: GuestStats,
}

impl Stage {
    pub(crate) fn state(&self) -> VmState {
        match self {
            Self::Created => VmState::Created,
            Self::Booted(_) => VmState::Booted,
            Self::Paused(_) => VmState::Paused,
            Self::Shutdown => VmState::Shutdown,
            Self::Dead(_) => VmState::Dead,
        }
    }

    pub(crate) fn running(&self) -> Option<&Arc<Running>> {
        match self {
            Self::Booted(running) | Self::Paused(running) => Some(running),
            _ => None,
        }
    }
}

impl Vm {
    pub(crate) fn create(
        file: Arc<TestFileContext>,
        scope: &Scope,
        name: &str,
        profile: Arc<Profile>,
        options: VmOptions,
    ) -> Self {
        let open_streams = Arc::<OpenStreams>::default();
        let inner = Inner {
            id: ResourceId::next(),
            name: name.to_owned(),
            profile,
            booted_with: Mutex::new(options.clone()),
            options,
            file,
            stage: watch::Sender::new(Stage::Created),
            lifecycle: Arc::default(),
            give_up: watch::Sender::new(0),
            console: Console::of_vm(name, Arc::clone(&open_streams)),
            open_files: Arc::new(AtomicUsize::new(0)),
            open_streams,
            processes: Processes::default(),
            files: Files::default(),
            workers: Workers::default(),
            reported: AtomicU64::new(0),
            timeline: Mutex::default(),
            closed: AtomicBool::new(false),
            original: None,
            place: Registration::default(),
        };
        inner.placed_in(scope)
    }

    /// A VM in the care of `scope` that stands for this one: for handles it is the same. It is off,
    /// and has all that was printed.
    pub(crate) fn copy_in(&self, scope: &Scope) -> Result<Self, LabError> {
        let open_streams = Arc::<OpenStreams>::default();
        let stage = match self.state() {
            VmState::Created => Stage::Created,
            _ => Stage::Shutdown,
        };
        let inner = Inner {
            id: self.id(),
            name: self.0.name.clone(),
            profile: Arc::clone(&self.0.profile),
            options: self.0.options.clone(),
            booted_with: Mutex::new(lock(&self.0.booted_with).clone()),
            file: Arc::clone(&self.0.file),
            stage: watch::Sender::new(stage),
            lifecycle: Arc::default(),
            give_up: watch::Sender::new(0),
            console: self.0.console.copy(Arc::clone(&open_streams))?,
            open_files: Arc::new(AtomicUsize::new(0)),
            open_streams,
            processes: Processes::default(),
            files: Files::default(),
            workers: Workers::default(),
            reported: AtomicU64::new(self.reported_console()),
            timeline: Mutex::new(lock(&self.0.timeline).clone()),
            closed: AtomicBool::new(false),
            original: Some(self.clone()),
            place: Registration::default(),
        };
        Ok(inner.placed_in(scope))
    }

    /// What it is a copy of; itself, where it is none.
    pub fn original(&self) -> &Self {
        self.0.original.as_ref().unwrap_or(self)
    }

    /// Whether both are the same machine, and not only the same for handles.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Its number.
    pub fn id(&self) -> ResourceId {
        self.0.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The name of its profile.
    pub fn profile(&self) -> &str {
        &self.0.profile.name
    }

    /// What messages call it: ``vm `web` ``.
    pub fn subject(&self) -> String {
        format!("vm `{}`", self.name())
    }

    /// Where it is in its life.
    pub fn state(&self) -> VmState {
        self.0.stage.borrow().state()
    }

    /// Whether it can be booted.
    pub fn is_off(&self) -> bool {
        matches!(self.state(), VmState::Created | VmState::Shutdown)
    }

    /// How much of its console was reported by the error of a boot that failed, bytes.
    pub fn reported_console(&self) -> u64 {
        self.0.reported.load(Ordering::Acquire)
    }

    /// As [`Vm::lifecycle`], for a call that ends the machine: a reset that goes on without its caller is
    /// given up for it.
    pub(crate) async fn lifecycle_to_end(&self) -> Lifecycle {
        self.0.give_up.send_modify(|count| *count += 1);
        self.lifecycle().await
    }

    /// Waits until nothing else changes its stage.
    pub(crate) async fn lifecycle(&self) -> Lifecycle {
        Arc::clone(&self.0.lifecycle).lock_owned().await
    }

    /// Whether it was closed for good.
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }

    /// The number that tells running VMs of this process apart; `None` when it does not run.
    pub fn cid(&self) -> Option<u32> {
        self.0.stage.borrow().running().map(|running| running.cid)
    }

    /// How many files are open in it.
    pub fn open_file_count(&self) -> usize {
        self.0.open_files.load(Ordering::Relaxed)
    }

    /// How many streams read it.
    pub fn open_stream_count(&self) -> usize {
        self.0.open_streams.count()
    }

    /// Whether no stream reads it, so that a snapshot could be taken.
    pub fn is_quiescent(&self) -> bool {
        self.open_stream_count() == 0
    }

    /// Its console, from the first byte on; also before the boot and after the end.
    pub fn console(&self) -> Console {
        self.0.console.clone()
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.0.file.environment
    }

    /// Its clock.
    pub fn clock(&self) -> Clock {
        Clock::new(self.clone())
    }

    /// Its commands, files and syscalls.
    pub fn surface(&self) -> Surface {
        Surface::of_vm(self.clone())
    }

    /// Time since the guest's kernel started, on the guest's clock.
    pub async fn uptime(&self) -> Result<Duration, LabError> {
        Ok(Duration::from_nanos(
            self.guest_stats("uptime()").await?.uptime_ns,
        ))
    }

    /// Figures about it.
    pub async fn stats(&self) -> Result<VmStats, LabError> {
        let guest = self.guest_stats("stats()").await?;
        let session = self.session("stats()")?;
        let usage = session.running.machine.usage();
        let usage = usage.map_err(|error| LabError::host(self.subject(), "stats()", error))?;
        Ok(VmStats {
            cpu_time: usage.cpu_time,
            resident_bytes: usage.resident_bytes,
            proportional_bytes: usage.proportional_bytes,
            boot_kind: session.running.boot_kind,
            boot_time: session.running.boot_time,
            guest,
        })
    }

    async fn guest_stats(&self, call: &str) -> Result<GuestStats, LabError> {
        let line = self.surface().agent(call.to_owned())?;
        let stats = line.lane.channel().call(Stats).await;
        line.checked(stats).await
    }

    /// What a call needs to talk to the guest; an error unless the VM is booted.
    pub(crate) fn session(&self, call: &str) -> Result<Session, LabError> {
        let stage = self.0.stage.borrow().clone();
        match stage {
            Stage::Booted(running) => Ok(Session {
                running,
                mark: lock(&self.0.timeline).mark(),
            }),
            other => Err(self.wrong_state(call, &other, "booted")),
        }
    }

    /// Whether what happened at `mark` is part of what the guest is now.
    pub(crate) fn has(&self, mark: Mark) -> bool {
        lock(&self.0.timeline).holds(mark)
    }

    /// For something that is made or closed now.
    pub(crate) fn mark(&self) -> Mark {
        lock(&self.0.timeline).mark()
    }

    /// What made void that which was made at `mark`; `None` if it is there.
    pub(crate) fn void(&self, mark: Mark) -> Option<&'static str> {
        let timeline = lock(&self.0.timeline);
        (!timeline.holds(mark)).then(|| timeline.how_void())
    }

    /// The moment now, to go back to.
    pub(crate) fn past(&self) -> Past {
        lock(&self.0.timeline).past()
    }

    /// The channel to its agent; `None` when it does not run.
    pub(crate) fn channel(&self) -> Option<Channel> {
        let stage = self.0.stage.borrow();
        stage.running().map(|running| running.channel.clone())
    }

    /// The machine it runs on; `None` when it does not run.
    pub(crate) fn machine_number(&self) -> Option<MachineNumber> {
        self.0
            .stage
            .borrow()
            .running()
            .map(|running| running.number)
    }

    /// The error of a call that the stage does not allow.
    pub(crate) fn wrong_state(&self, call: &str, stage: &Stage, allowed: &'static str) -> LabError {
        let subject = self.subject();
        let call = call.to_owned();
        if self.is_closed() {
            return LabError::gone(subject, call, "the VM is closed");
        }
        match stage {
            Stage::Dead(report) => report.error(subject, call),
            other => LabError::State {
                subject,
                call,
                allowed,
                found: other.state().word(),
            },
        }
    }

    pub(crate) fn leave_scope(&self) {
        self.0.place.leave();
    }
}

impl Inner {
    fn placed_in(self, scope: &Scope) -> Vm {
        let vm = Vm(Arc::new(self));
        let key = (CloseOrder::Vm, vm.id());
        vm.0.place.take(scope, key, Arc::new(vm.clone()));
        vm
    }
}

impl Close for Vm {
    fn subject(&self) -> String {
        Self::subject(self)
    }

    fn close(&self) -> Closing<'_> {
        Box::pin(Self::close(self))
    }

    fn guest(&self) -> Option<GuestKey> {
        Some(GuestKey::of(self))
    }
}

impl fmt::Debug for Vm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Vm").field(&self.0.name).finish()
    }
}
