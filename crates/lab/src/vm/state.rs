//! The state of a VM: its stage, the right to change that, and its parts.

use crate::apart::apart;
use crate::environment::{Environment, EnvironmentError};
use crate::error::LabError;
use crate::guest::console::Console;
use crate::guest::handles::GuestHandles;
use crate::guest::stream::OpenStreams;
use crate::guest::worker::Workers;
use crate::lock::lock;
use crate::profile::Profile;
use crate::resource::{GuestChange, Registration, ResourceId, Timeline, TimelineHistory};
use crate::test_file::TestFileContext;
use crate::vm::disk::VmDisks;
use crate::vm::nic::VmNics;
use crate::vm::running::{DeathReport, RunningMachine};
use crate::vm_options::VmOptions;
use provium_pool::{Caller, Grant, Resources};
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, watch};

/// How long the end of a machine may take to be noticed after a call has failed because of it.
const END_GRACE: Duration = Duration::from_secs(2);

/// The state of a VM, which its handles share.
pub(crate) struct VmCore {
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
    pub(crate) nics: VmNics,
    pub(crate) disks: VmDisks,
    pub(crate) timeline: Mutex<Timeline>,
    pub(crate) closed: AtomicBool,
    /// The VM that it is a copy of.
    pub(crate) original: Option<Arc<Self>>,
    pub(crate) place: Registration,
}

/// The right to change a VM's stage.
pub(crate) type Lifecycle = OwnedMutexGuard<()>;

/// Where a VM is in its life, with what belongs to it there.
#[derive(Clone)]
pub(crate) enum Stage {
    Created,
    Booted(Arc<RunningMachine>),
    Paused(Arc<RunningMachine>),
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

    pub(crate) fn running(&self) -> Option<&Arc<RunningMachine>> {
        match self {
            Self::Booted(running) | Self::Paused(running) => Some(running),
            _ => None,
        }
    }
}

impl VmCore {
    /// Its name in messages: ``vm `web` ``.
    pub(crate) fn subject(&self) -> String {
        format!("vm `{}`", self.name)
    }

    pub(crate) fn state(&self) -> VmState {
        self.stage.borrow().state()
    }

    /// Whether it was closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Replaces the stage that `running` belongs to; false if that is over already.
    pub(crate) fn replace_stage(&self, running: &Arc<RunningMachine>, next: Stage) -> bool {
        self.stage.send_if_modified(|stage| {
            let ours = stage.running().is_some_and(|now| Arc::ptr_eq(now, running));
            if ours {
                *stage = next;
            }
            ours
        })
    }

    /// As [`VmCore::lifecycle`], for a call that ends the machine: a reset that continues without its caller is
    /// abandoned for it.
    pub(crate) async fn lifecycle_to_end(&self) -> Lifecycle {
        self.give_up.send_modify(|count| *count += 1);
        self.lifecycle().await
    }

    /// Waits until nothing else changes its stage.
    pub(crate) async fn lifecycle(&self) -> Lifecycle {
        Arc::clone(&self.lifecycle).lock_owned().await
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.file.environment
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
        let grant = self.file.budget.acquire(need).await;
        grant.map_err(|cause| LabError::Budget {
            subject: self.subject(),
            call: call.to_owned(),
            cause,
        })
    }

    /// Its timeline, for a snapshot.
    pub(crate) fn history(&self) -> TimelineHistory {
        lock(&self.timeline).history()
    }

    /// Its machine; an error unless it is in the state, `allowed` as text.
    pub(crate) fn running_in(
        &self,
        call: &str,
        state: VmState,
        allowed: &'static str,
    ) -> Result<Arc<RunningMachine>, LabError> {
        let stage = self.stage.borrow().clone();
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

    /// Another guest begins, and what was open in the one before is not in it.
    pub(crate) fn begin_guest(&self, change: GuestChange) {
        lock(&self.timeline).boot(change);
        self.open_streams.guest_ended();
        self.open_files.store(0, Ordering::Relaxed);
    }

    /// Runs `work` to its end, whether or not the caller waits for it.
    pub(crate) async fn uninterrupted<T: Send + 'static>(
        &self,
        call: &str,
        work: impl Future<Output = Result<T, LabError>> + Send + 'static,
    ) -> Result<T, LabError> {
        let runtime = self.environment().runtime();
        let working = match Caller::current() {
            Some(caller) => runtime.spawn(caller.enter(work)),
            None => runtime.spawn(work),
        };
        match working.await {
            Ok(done) => done,
            Err(error) => Err(LabError::host(self.subject(), call, error)),
        }
    }

    /// How long the agent may take to answer, as the author or the profile has set it.
    pub(crate) fn agent_timeout(&self, options: &VmOptions) -> Duration {
        options
            .agent_timeout
            .unwrap_or(self.profile.agent_boot_timeout)
    }

    /// The same, times the timeout multiplier.
    pub(crate) fn agent_limit(&self, options: &VmOptions) -> Duration {
        self.environment()
            .scale_timeout(self.agent_timeout(options))
    }

    /// The error of a call: the death of the VM, if that is why the machine or the channel failed.
    pub(crate) async fn explain(&self, call: &str, error: LabError) -> LabError {
        match self.stage_after_end().await {
            Some(Stage::Dead(report)) => report.error(self.subject(), call.to_owned()),
            Some(_) => LabError::gone(self.subject(), call, "the VM was shut down meanwhile"),
            None => error,
        }
    }

    /// Its stage once the end of its machine was noticed; `None` if it was not within a grace period.
    pub(crate) async fn stage_after_end(&self) -> Option<Stage> {
        let mut stage = self.stage.subscribe();
        let ended = stage.wait_for(|stage| stage.running().is_none());
        let stage = tokio::time::timeout(END_GRACE, ended).await.ok()?.ok()?;
        Some(stage.clone())
    }
}
