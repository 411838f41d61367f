//! The handle of a VM: its names, its state, and the objects that belong to it.

use crate::apart::apart;
use crate::environment::{Environment, EnvironmentError};
use crate::error::LabError;
use crate::guest::console::Console;
use crate::guest::handles::GuestHandles;
use crate::guest::stream::OpenStreams;
use crate::guest::worker::Workers;
use crate::lock::lock;
use crate::profile::Profile;
use crate::resource::{Close, CloseOrder, Closing, GuestKey, Registration, ResourceId, Scope};
use crate::test_file::TestFileContext;
use crate::vm::options::VmOptions;
use crate::vm::running::{DeathReport, Running};
use crate::vm::timeline::{Timeline, TimelineHistory};
use provium_pool::{Grant, Resources};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, watch};

/// A VM: one method for each call that a test can make, here and in `boot`, `power`, `stats` and
/// `save/snapshot`, which is why there are more than 30. The work is done by free functions and by types of
/// these files.
#[derive(Clone)]
pub struct Vm(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) id: ResourceId,
    pub(crate) name: String,
    pub(crate) profile: Arc<Profile>,
    pub(crate) options: VmOptions,
    /// The options of its last boot, over `options` below.
    pub(crate) booted_with: Mutex<VmOptions>,
    pub(crate) file: Arc<TestFileContext>,
    pub(crate) stage: watch::Sender<Stage>,
    /// Held by each call that changes the stage on purpose: boot, pause, shutdown…
    pub(crate) lifecycle: Arc<AsyncMutex<()>>,
    /// Counts the calls for which a reset is abandoned whose caller has stopped waiting.
    pub(crate) give_up: watch::Sender<u64>,
    pub(crate) console: Console,
    pub(crate) open_files: AtomicUsize,
    pub(crate) open_streams: Arc<OpenStreams>,
    pub(crate) handles: Arc<GuestHandles>,
    pub(crate) workers: Workers,
    /// How much of the console was reported by the error of a failed boot, bytes.
    pub(crate) reported: AtomicU64,
    pub(crate) timeline: Mutex<Timeline>,
    pub(crate) closed: AtomicBool,
    /// The VM that it is a copy of.
    original: Option<Vm>,
    pub(crate) place: Registration,
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
    /// Its vCPUs are stopped.
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
            open_files: AtomicUsize::new(0),
            open_streams,
            handles: Arc::default(),
            workers: Workers::default(),
            reported: AtomicU64::new(0),
            timeline: Mutex::default(),
            closed: AtomicBool::new(false),
            original: None,
            place: Registration::default(),
        };
        inner.placed_in(scope)
    }

    /// A VM owned by `scope` that replaces this one: for handles it is the same. It is off, and its console has
    /// all that this one printed.
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
            open_files: AtomicUsize::new(0),
            open_streams,
            handles: Arc::default(),
            workers: Workers::default(),
            reported: AtomicU64::new(self.reported_console()),
            timeline: Mutex::new(lock(&self.0.timeline).clone()),
            closed: AtomicBool::new(false),
            original: Some(self.clone()),
            place: Registration::default(),
        };
        Ok(inner.placed_in(scope))
    }

    /// The VM that it is a copy of, or itself.
    pub fn original(&self) -> &Self {
        self.0.original.as_ref().unwrap_or(self)
    }

    /// Whether both are the same VM, and not only equal for handles.
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

    /// Its name in messages: ``vm `web` ``.
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

    /// As [`Vm::lifecycle`], for a call that ends the machine: a reset that continues without its caller is
    /// abandoned for it.
    pub(crate) async fn lifecycle_to_end(&self) -> Lifecycle {
        self.0.give_up.send_modify(|count| *count += 1);
        self.lifecycle().await
    }

    /// Waits until nothing else changes its stage.
    pub(crate) async fn lifecycle(&self) -> Lifecycle {
        Arc::clone(&self.0.lifecycle).lock_owned().await
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }

    /// The number that distinguishes the running VMs of this process; `None` when it does not run.
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

    /// Runs `work` where the machine's I/O is.
    pub(crate) async fn apart<T: Send + 'static>(
        &self,
        call: &str,
        work: impl Future<Output = Result<T, LabError>> + Send + 'static,
    ) -> Result<T, LabError> {
        match apart(self.environment().runtime(), work).await {
            Ok(result) => result,
            Err(error) => Err(LabError::host(self.subject(), call, error)),
        }
    }

    /// The error of a boot that the host cannot do.
    pub(crate) fn host_error(&self, error: EnvironmentError) -> LabError {
        LabError::host(self.subject(), "boot()", error)
    }

    /// Reserves what a machine needs, from the file's claim or from the pool.
    pub(crate) async fn grant(&self, call: &str, need: Resources) -> Result<Grant, LabError> {
        let environment = self.environment();
        environment
            .warm_pool
            .make_room(environment.pool().available().memory_bytes);
        let grant = self.0.file.budget.acquire(need).await;
        grant.map_err(|cause| LabError::Budget {
            subject: self.subject(),
            call: call.to_owned(),
            cause,
        })
    }

    /// Its timeline, for a snapshot.
    pub(crate) fn history(&self) -> TimelineHistory {
        lock(&self.0.timeline).history()
    }

    /// Its machine; an error unless it is in the state, `allowed` as text.
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

    /// Identifies its guest for scopes.
    pub(crate) fn guest_key(&self) -> GuestKey {
        GuestKey::of(&self.0)
    }
}

impl Inner {
    /// Replaces the stage that `running` belongs to; false if that is over already.
    pub(crate) fn replace_stage(&self, running: &Arc<Running>, next: Stage) -> bool {
        self.stage.send_if_modified(|stage| {
            let ours = stage.running().is_some_and(|now| Arc::ptr_eq(now, running));
            if ours {
                *stage = next;
            }
            ours
        })
    }

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
        Some(self.guest_key())
    }
}

impl fmt::Debug for Vm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Vm").field(&self.0.name).finish()
    }
}
