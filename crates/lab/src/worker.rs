//! Workers: further processes of the agent's in the same guest, each with identity, descriptors and
//! memory of its own, so that what one does delays and changes no other.

use crate::command::RunStatus;
use crate::error::LabError;
use crate::file::{File, Files};
use crate::lock::lock;
use crate::process::{Process, Processes};
use crate::scope::{Class, Close, Closing, Place, ResourceId, Scope};
use crate::snapshot::LabCopy;
use crate::surface::Surface;
use crate::vm::{Mark, Vm};
use provium_protocol::Lane;
use provium_protocol::op::WorkerSpec;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long the commands of a worker that is closed have between SIGTERM and SIGKILL.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

/// A worker.
#[derive(Clone)]
pub struct Worker(Arc<Inner>);

struct Inner {
    id: ResourceId,
    pid: u32,
    vm: Vm,
    surface: Surface,
    seat: Arc<WorkerSeat>,
    place: Place,
}

/// What a surface needs to know of the worker it belongs to.
#[derive(Debug)]
pub(crate) struct WorkerSeat {
    /// The worker's.
    pub(crate) id: ResourceId,
    pub(crate) lane: Lane,
    pub(crate) mark: Mark,
    /// Why it is gone, once it is.
    gone: Mutex<Option<&'static str>>,
    /// The commands it has started with `run_async`. Not kept by it: their output may be large.
    children: Processes,
    files: Files,
}

impl WorkerSeat {
    /// An error once the worker is gone.
    pub(crate) fn check(&self, subject: &str, call: &str) -> Result<(), LabError> {
        match *lock(&self.gone) {
            None => Ok(()),
            Some(why) => Err(LabError::gone(subject, call, why)),
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        lock(&self.gone).is_some()
    }

    /// That of the same worker in a copy of its VM.
    pub(crate) fn copy(&self) -> Self {
        Self {
            id: self.id,
            lane: self.lane,
            mark: self.mark,
            gone: Mutex::new(*lock(&self.gone)),
            children: Processes::default(),
            files: Files::default(),
        }
    }

    /// Takes note of a command that the worker runs.
    pub(crate) fn adopt(&self, child: &Process) {
        self.children.add(child);
    }

    /// Takes note of a file that is one of the worker's descriptors.
    pub(crate) fn adopt_file(&self, file: &File) {
        self.files.add(file);
    }

    /// Marks it gone; false if it was already.
    fn leave(&self, why: &'static str) -> bool {
        let mut gone = lock(&self.gone);
        let first = gone.is_none();
        gone.get_or_insert(why);
        first
    }
}

impl Vm {
    /// Starts a worker, as a copy of the process that makes the VM's raw syscalls.
    pub async fn spawn_worker(&self, scope: &Scope, spec: WorkerSpec) -> Result<Worker, LabError> {
        let line = self.surface().agent("spawn_worker()".to_owned())?;
        let spawned = line.lane.channel().spawn_worker(spec).await;
        let provium_guest::Worker { lane, pid } = line.checked_start(spawned).await?;
        let id = ResourceId::next();
        let seat = Arc::new(WorkerSeat {
            id,
            lane,
            mark: line.mark,
            gone: Mutex::new(None),
            children: Processes::default(),
            files: Files::default(),
        });
        let worker = Worker::new(pid, self.clone(), seat);
        worker
            .0
            .place
            .take(scope, (Class::Worker, id), Arc::new(worker.clone()));
        Ok(worker)
    }
}

impl Worker {
    fn new(pid: u32, vm: Vm, seat: Arc<WorkerSeat>) -> Self {
        Self(Arc::new(Inner {
            id: seat.id,
            pid,
            surface: Surface::of_worker(vm.clone(), Arc::clone(&seat)),
            vm,
            seat,
            place: Place::default(),
        }))
    }

    /// The same worker in a copy of its lab.
    pub(crate) fn in_copy(&self, copy: &LabCopy) -> Self {
        Self::new(self.pid(), copy.vm(self.vm()), copy.seat(&self.0.seat))
    }

    /// Its number.
    pub fn id(&self) -> ResourceId {
        self.0.id
    }

    /// The number that the agent knows it by.
    pub fn handle(&self) -> u32 {
        self.0.seat.lane.0
    }

    /// Its process id in the guest.
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// The VM it works in.
    pub fn vm(&self) -> &Vm {
        &self.0.vm
    }

    /// What messages call it.
    pub fn subject(&self) -> String {
        self.0.surface.subject()
    }

    /// Its commands, files and syscalls.
    pub fn surface(&self) -> Surface {
        self.0.surface.clone()
    }

    /// Signals every command that it has in flight from `run_async`; how many.
    pub async fn kill(&self, signal: i32) -> Result<u64, LabError> {
        let line = self.0.surface.commands(format!("kill({signal})"))?;
        let count = line.lane.signal_all(signal).await;
        line.checked(count).await
    }

    /// Waits for all its commands and ends it; the worst of their exit codes, 128 + signal for one
    /// that was killed, 0 if there were none.
    pub async fn join(&self) -> Result<i32, LabError> {
        let call = "join()";
        self.0.seat.check(&self.subject(), call)?;
        let line = self.0.surface.commands(call.to_owned())?;
        let mut worst = 0;
        for child in self.0.seat.children.held() {
            match child.wait(None).await {
                Ok(result) => worst = worst.max(RunStatus::shell_code(result.status)),
                // It went with the worker, of whose own end the agent tells below.
                Err(LabError::ExecutorDied { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        // The agent keeps its own books: of those that were closed, and of what it still has.
        let joined = line.lane.join().await;
        worst = worst.max(line.checked(joined).await?.0);
        self.retire("the worker was joined").await?;
        Ok(worst)
    }

    /// Ends it: SIGTERM to all its commands, SIGKILL to those still there after 2 s, then its own
    /// process. Closed, joined or lost already is fine.
    pub async fn close(&self) -> Result<(), LabError> {
        if let Ok(line) = self.0.surface.commands("close()".to_owned()) {
            let gentle = async {
                if !matches!(line.lane.signal_everything(SIGTERM).await, Ok(0)) {
                    let _ = line.lane.join().await;
                }
            };
            if tokio::time::timeout(CLOSE_GRACE, gentle).await.is_err() {
                let kill = line.lane.signal_everything(SIGKILL);
                // A worker that does not even answer this is ended with all it has below.
                let _ = tokio::time::timeout(CLOSE_GRACE, kill).await;
            }
        }
        self.retire("the worker is closed").await
    }

    async fn retire(&self, why: &'static str) -> Result<(), LabError> {
        if !self.0.seat.leave(why) {
            return Ok(());
        }
        self.0.place.leave();
        let lane = self.0.seat.lane;
        let retired = match self.0.vm.surface().agent("close()".to_owned()) {
            Ok(line) if self.0.vm.void(self.0.seat.mark).is_none() => {
                let retired = line.lane.channel().retire_worker(lane).await;
                line.checked(retired).await
            }
            // The guest it worked in is off, dead or has been reset: nothing is left of it.
            _ => Ok(()),
        };
        self.0.seat.files.close().await;
        retired
    }
}

impl Close for Worker {
    fn subject(&self) -> String {
        Self::subject(self)
    }

    fn close(&self) -> Closing<'_> {
        Box::pin(Self::close(self))
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Worker").field(&self.subject()).finish()
    }
}
