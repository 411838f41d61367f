//! A VM as the handles of its guest see it, and the operations on its guest.

use crate::error::LabError;
use crate::guest::clock::Clock;
use crate::guest::ops::GuestOps;
use crate::guest::stream::OpenStreams;
use crate::guest::target::{AgentLink, GuestVm, Target};
use crate::guest::worker::Worker;
use crate::resource::{GuestKey, ResourceId, Scope, Timeline};
use crate::vm::handle::Vm;
use crate::vm::state::VmState;
use futures_util::future::BoxFuture;
use provium_protocol::op::WorkerSpec;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Handle;

impl GuestVm for Vm {
    fn id(&self) -> ResourceId {
        self.0.id
    }

    fn key(&self) -> GuestKey {
        GuestKey::of(&self.0)
    }

    fn subject(&self) -> String {
        Vm::subject(self)
    }

    fn link(&self) -> Option<AgentLink> {
        let stage = self.0.stage.borrow();
        stage.running().map(|running| running.link())
    }

    fn booted(&self, call: &str) -> Result<AgentLink, LabError> {
        let running = self.0.running_in(call, VmState::Booted, "booted")?;
        Ok(running.link())
    }

    fn is_paused(&self) -> bool {
        self.state() == VmState::Paused
    }

    fn timeline(&self) -> &Mutex<Timeline> {
        &self.0.timeline
    }

    fn open_streams(&self) -> &Arc<OpenStreams> {
        &self.0.open_streams
    }

    fn open_files(&self) -> &AtomicUsize {
        &self.0.open_files
    }

    fn runtime(&self) -> &Handle {
        self.0.environment().runtime()
    }

    fn scale_timeout(&self, timeout: Duration) -> Duration {
        self.0.environment().scale_timeout(timeout)
    }

    fn explain<'a>(&'a self, call: &'a str, error: LabError) -> BoxFuture<'a, LabError> {
        Box::pin(self.0.explain(call, error))
    }
}

impl Vm {
    /// It, as the target of calls.
    pub(crate) fn target(&self) -> Target {
        Target::of_vm(self.clone())
    }

    /// Its commands, files and syscalls.
    pub fn ops(&self) -> GuestOps {
        GuestOps::of_vm(self.target(), Arc::clone(&self.0.handles))
    }

    /// Its clock.
    pub fn clock(&self) -> Clock {
        Clock::new(self.target())
    }

    /// Starts a worker, as a copy of the process that makes the VM's raw syscalls.
    ///
    /// # Errors
    /// What the guest answers: the user or working directory may be missing in it.
    pub async fn spawn_worker(&self, scope: &Scope, spec: WorkerSpec) -> Result<Worker, LabError> {
        let worker = Worker::spawn(&self.ops(), scope, spec).await?;
        self.0.workers.add(&worker);
        Ok(worker)
    }
}
