//! Where a handle's calls go: a VM, or a worker in it.
//!
//! The VM is above this folder. A handle knows it as a [`GuestVm`], which has what handles need and nothing
//! of boots, snapshots and labs.

use crate::error::LabError;
use crate::guest::stream::OpenStreams;
use crate::guest::worker_state::WorkerState;
use crate::lock::lock;
use crate::resource::{Generation, GuestChange, GuestKey, HandleEpoch, ResourceId, Timeline};
use futures_util::future::BoxFuture;
use provium_guest::Channel;
use provium_protocol::Lane;
use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Handle;

/// A VM, as the handles of its guest see it.
pub(crate) trait GuestVm: Send + Sync {
    /// Its number, which a clone of the VM has, too.
    fn id(&self) -> ResourceId;
    /// Identifies its guest; a clone of the VM has another.
    fn key(&self) -> GuestKey;
    /// Its name in messages: ``vm `web` ``.
    fn subject(&self) -> String;
    /// The machine it runs on; `None` when it does not run.
    fn link(&self) -> Option<AgentLink>;
    /// The machine it runs on, for a call to the guest.
    ///
    /// # Errors
    /// Unless the VM is booted.
    fn booted(&self, call: &str) -> Result<AgentLink, LabError>;
    /// Whether the harness has stopped its vCPUs.
    fn is_paused(&self) -> bool;
    /// Decides which handles are valid.
    fn timeline(&self) -> &Mutex<Timeline>;
    /// The streams that read it.
    fn open_streams(&self) -> &Arc<OpenStreams>;
    /// The number of files that are open in it.
    fn open_files(&self) -> &AtomicUsize;
    /// Where work is done that continues without its caller.
    fn runtime(&self) -> &Handle;
    /// A timeout that waits for a guest, times the timeout multiplier.
    fn scale_timeout(&self, timeout: Duration) -> Duration;
    /// The error of a call whose channel failed: the end of the VM, if that is why.
    fn explain<'a>(&'a self, call: &'a str, error: LabError) -> BoxFuture<'a, LabError>;
}

/// The machine that a VM runs on, as a call needs it.
#[derive(Clone)]
pub(crate) struct AgentLink {
    pub(crate) channel: Channel,
    pub(crate) generation: Generation,
}

/// A VM or a worker: the process in the guest that carries out calls.
#[derive(Clone)]
pub struct Target {
    vm: Arc<dyn GuestVm>,
    worker: Option<Arc<WorkerState>>,
}

impl Target {
    pub(crate) fn of_vm(vm: impl GuestVm + 'static) -> Self {
        Self {
            vm: Arc::new(vm),
            worker: None,
        }
    }

    /// A worker in the same VM.
    pub(crate) fn with_worker(&self, worker: Arc<WorkerState>) -> Self {
        Self {
            vm: Arc::clone(&self.vm),
            worker: Some(worker),
        }
    }

    /// The VM alone.
    pub(crate) fn without_worker(&self) -> Self {
        Self {
            vm: Arc::clone(&self.vm),
            worker: None,
        }
    }

    /// Its name in messages: ``vm `web` ``, ``worker 17 of vm `web` ``.
    pub fn subject(&self) -> String {
        match &self.worker {
            None => self.vm.subject(),
            Some(worker) => format!("worker {} of {}", worker.lane.0, self.vm.subject()),
        }
    }

    pub(crate) fn vm(&self) -> &dyn GuestVm {
        &*self.vm
    }

    pub(crate) fn worker(&self) -> Option<&Arc<WorkerState>> {
        self.worker.as_ref()
    }

    /// The lane of its process.
    pub(crate) fn lane(&self) -> Lane {
        self.worker.as_ref().map_or(Lane::VM, |worker| worker.lane)
    }

    /// Whether both are in the same VM, or one is in a clone of the other's.
    pub(crate) fn is_in_vm_of(&self, other: &Self) -> bool {
        self.vm.id() == other.vm.id()
    }

    /// The epoch of a handle that is made or closed now.
    pub(crate) fn epoch(&self) -> HandleEpoch {
        lock(self.vm.timeline()).mark()
    }

    /// Whether a handle that was made, or closed, at `epoch` still is.
    pub(crate) fn has(&self, epoch: HandleEpoch) -> bool {
        lock(self.vm.timeline()).is_valid(epoch)
    }

    /// What has invalidated a handle that was made at `epoch`; `None` if it is valid.
    pub(crate) fn why_invalid(&self, epoch: HandleEpoch) -> Option<GuestChange> {
        let timeline = lock(self.vm.timeline());
        (!timeline.is_valid(epoch)).then(|| timeline.last_change())
    }

    /// What happened to the guest last.
    pub(crate) fn last_change(&self) -> GuestChange {
        lock(self.vm.timeline()).last_change()
    }

    /// Why it is gone, if it is a worker that is gone.
    pub(crate) fn why_gone(&self) -> Option<&'static str> {
        let worker = self.worker.as_ref()?;
        worker.why_gone(&lock(self.vm.timeline()))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&self.subject()).finish()
    }
}
