//! Workers: further processes of the agent's in the same guest, each with identity, descriptors and
//! memory of its own, so that what one does delays and changes no other.

use crate::error::LabError;
use crate::graph::clone::LabClone;
use crate::guest::ending::end_all;
use crate::guest::file::{File, Files};
use crate::guest::process::{Process, Processes};
use crate::guest::stream::{ByteStream, WeakStream};
use crate::guest::surface::Surface;
use crate::lock::lock;
use crate::resource::{Close, CloseOrder, Closing, GuestKey, Registration, ResourceId, Scope};
use crate::vm::{HandleEpoch, Vm, VmState};
use futures_util::future::join_all;
use provium_guest::CallError;
use provium_protocol::message::{ErrorKind, SpawnedWorker};
use provium_protocol::op::{Join, RetireWorker, SignalAll, WorkerSpec};
use provium_protocol::{Lane, Op};
use std::fmt;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

/// How often the guest is asked whether a worker's process is stopped.
const LOOK: Duration = Duration::from_secs(1);

/// A worker.
#[derive(Clone)]
pub struct Worker(Arc<Inner>);

struct Inner {
    id: ResourceId,
    vm: Vm,
    surface: Surface,
    seat: Arc<WorkerSeat>,
    place: Registration,
}

/// What a surface needs to know of the worker it belongs to.
#[derive(Debug)]
pub(crate) struct WorkerSeat {
    /// The worker's.
    pub(crate) id: ResourceId,
    pub(crate) lane: Lane,
    /// Its process id in the guest.
    pid: u32,
    pub(crate) mark: HandleEpoch,
    /// Why it is gone, and since when. It is there again where the VM was put back to before that.
    gone: Mutex<Option<(&'static str, HandleEpoch)>>,
    /// The commands it has started with `run_async`. Not kept by it: their output may be large.
    children: Processes,
    files: Files,
    /// Tails of its files and descriptors.
    tails: Mutex<Vec<WeakStream>>,
    /// Streams of what its commands print, which the harness has captured.
    outputs: Mutex<Vec<WeakStream>>,
}

impl WorkerSeat {
    /// An error once the worker is gone.
    pub(crate) fn check(&self, vm: &Vm, subject: &str, call: &str) -> Result<(), LabError> {
        match *lock(&self.gone) {
            Some((why, since)) if vm.has(since) => Err(LabError::gone(subject, call, why)),
            _ => Ok(()),
        }
    }

    pub(crate) fn is_gone(&self, vm: &Vm) -> bool {
        lock(&self.gone).is_some_and(|(_, since)| vm.has(since))
    }

    /// That of the same worker in a copy of its VM.
    pub(crate) fn copy(&self) -> Self {
        Self {
            id: self.id,
            lane: self.lane,
            pid: self.pid,
            mark: self.mark,
            gone: Mutex::new(*lock(&self.gone)),
            children: Processes::default(),
            files: Files::default(),
            tails: Mutex::default(),
            outputs: Mutex::default(),
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

    /// Takes note of a stream that reads one of the worker's files or descriptors: it ends with the
    /// worker.
    pub(crate) fn adopt_tail(&self, stream: &ByteStream) {
        note(&self.tails, stream);
    }

    /// Takes note of a stream of a command's output: what was printed can be read after the worker's end.
    pub(crate) fn adopt_output(&self, stream: &ByteStream) {
        note(&self.outputs, stream);
    }

    /// The worker has ended, and none of its streams needs the guest any more.
    async fn end_streams(&self) {
        let tails = std::mem::take(&mut *lock(&self.tails));
        for stream in tails.iter().filter_map(WeakStream::upgrade) {
            stream.end().await;
        }
        let outputs = std::mem::take(&mut *lock(&self.outputs));
        for stream in outputs.iter().filter_map(WeakStream::upgrade) {
            stream.leave_guest();
        }
    }

    /// Whether its process is stopped, as far as the guest says so soon.
    pub(crate) async fn is_stopped(&self, vm: &Vm) -> bool {
        matches!(vm.process_state(self.pid).await, Some('T' | 't'))
    }

    /// Marks it gone; false if it was already.
    fn leave(&self, vm: &Vm, why: &'static str) -> bool {
        let mut gone = lock(&self.gone);
        if gone.is_some_and(|(_, since)| vm.has(since)) {
            return false;
        }
        *gone = Some((why, vm.mark()));
        true
    }
}

impl Vm {
    /// Starts a worker, as a copy of the process that makes the VM's raw syscalls.
    pub async fn spawn_worker(&self, scope: &Scope, spec: WorkerSpec) -> Result<Worker, LabError> {
        let context = self.surface().agent("spawn_worker()".to_owned())?;
        let spawned = context.lane.channel().spawn_worker(spec).await;
        let SpawnedWorker { lane, pid } = context.explain_start(spawned).await?;
        let id = ResourceId::next();
        let seat = Arc::new(WorkerSeat {
            id,
            lane,
            pid,
            mark: context.made_now()?.mark,
            gone: Mutex::new(None),
            children: Processes::default(),
            files: Files::default(),
            tails: Mutex::default(),
            outputs: Mutex::default(),
        });
        let worker = Worker::new(self.clone(), seat);
        worker
            .0
            .place
            .take(scope, (CloseOrder::Worker, id), Arc::new(worker.clone()));
        self.0.workers.add(&worker);
        Ok(worker)
    }
}

impl Worker {
    fn new(vm: Vm, seat: Arc<WorkerSeat>) -> Self {
        Self(Arc::new(Inner {
            id: seat.id,
            surface: Surface::of_worker(vm.clone(), Arc::clone(&seat)),
            vm,
            seat,
            place: Registration::default(),
        }))
    }

    /// The same worker in a copy of its lab.
    pub(crate) fn in_copy(&self, copy: &LabClone) -> Self {
        Self::new(copy.vm(self.vm()), copy.seat(&self.0.seat))
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
        self.0.seat.pid
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

    /// Signals every command that it has in flight from `run_async`; how many. A worker whose process
    /// has ended has none.
    pub async fn kill(&self, signal: i32) -> Result<u64, LabError> {
        let context = self.0.surface.commands(format!("kill({signal})"))?;
        if !context.lane.may_have_background_commands() {
            return Ok(0);
        }
        let signalled = context.lane.call(SignalAll {
            signal,
            everything: false,
        });
        match context.while_answering(None, signalled).await? {
            Err(error) if has_ended(&error).is_some() => Ok(0),
            count => context.explain(count).await,
        }
    }

    /// Waits for all its commands, those of `run` among them, and ends it; the worst of their exit codes,
    /// 128 + signal for one that was killed, 0 if there were none. Where its own process has ended, how
    /// that ended counts, too.
    pub async fn join(&self) -> Result<i32, LabError> {
        let call = "join()";
        self.0.seat.check(&self.0.vm, &self.subject(), call)?;
        let context = self.0.surface.commands(call.to_owned())?;
        let mut worst = 0;
        for child in self.0.seat.children.held() {
            match child.wait(None).await {
                Ok(result) => worst = worst.max(result.status.shell_code()),
                // Reported by the agent, below.
                Err(LabError::ExecutorDied { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let runs = context.lane.commands_in_flight();
        for exit in join_all(runs.iter().map(|run| run.wait())).await {
            let code = exit.ok().and_then(|exit| {
                let signalled = exit.signal.map(|signal| 128 + signal);
                signalled.or(exit.code)
            });
            worst = worst.max(code.unwrap_or(0));
        }
        // The agent keeps its own books: of those that were closed, and of what it still has. Nothing is
        // in flight any more, so only a process that is stopped does not answer.
        let joined = tokio::select! {
            joined = context.lane.call(Join) => joined.map(|joined| joined.exit_code),
            () = self.stopped() => Ok(0),
        };
        let code = match joined {
            Ok(code) => code,
            Err(error) => match has_ended(&error) {
                Some(code) => code,
                None => context.explain(Err(error)).await?,
            },
        };
        worst = worst.max(code);
        self.retire("the worker was joined").await?;
        Ok(worst)
    }

    /// Returns once its process is found stopped.
    async fn stopped(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            if self.0.seat.is_stopped(&self.0.vm).await {
                return;
            }
        }
    }

    /// Ends it: SIGTERM to all its commands, SIGKILL to those still there after 2 s, then its own
    /// process. Closed, joined or lost already is fine.
    ///
    /// # Errors
    /// When the guest does not carry that out in time. The worker is gone all the same, and the guest
    /// ends it as soon as it can.
    pub async fn close(&self) -> Result<(), LabError> {
        if let Ok(context) = self.0.surface.commands("close()".to_owned()) {
            let commands = context.lane.commands_in_flight();
            let commands: Vec<_> = commands.iter().collect();
            // Those that are left are ended with the worker's process.
            let _ = end_all(&commands).await;
        }
        self.retire("the worker is closed").await
    }

    async fn retire(&self, why: &'static str) -> Result<(), LabError> {
        if !self.0.seat.leave(&self.0.vm, why) {
            return Ok(());
        }
        self.0.place.leave();
        self.0.seat.end_streams().await;
        let retired = self.end_process().await;
        self.0.seat.files.close().await;
        retired
    }

    /// Ends its process with all that it owns.
    async fn end_process(&self) -> Result<(), LabError> {
        let vm = &self.0.vm;
        if vm.void(self.0.seat.mark).is_some() {
            // The guest it worked in has been reset: nothing is left of it.
            return Ok(());
        }
        let Some(channel) = vm.channel() else {
            // The guest is off or dead.
            return Ok(());
        };
        let lane = self.0.seat.lane;
        if vm.state() == VmState::Paused {
            channel.post(Lane::VM, &Op::RetireWorker { lane });
            let why = "the VM is paused; the worker is ended once it is resumed";
            return Err(LabError::gone(self.subject(), "close()", why));
        }
        let context = vm.surface().agent("close()".to_owned())?;
        let context = context.with_subject(self.subject(), "close()");
        // It continues when it is not awaited any more.
        let retired = vm
            .environment()
            .runtime()
            .spawn(async move { channel.lane(Lane::VM).call(RetireWorker { lane }).await });
        match context.while_answering(None, retired).await? {
            Ok(retired) => context.explain(retired).await,
            Err(error) => Err(LabError::host(self.subject(), "close()", error)),
        }
    }
}

fn note(streams: &Mutex<Vec<WeakStream>>, stream: &ByteStream) {
    let mut streams = lock(streams);
    streams.retain(|stream| stream.upgrade().is_some_and(|stream| !stream.is_closed()));
    streams.push(stream.downgrade());
}

/// How the process that a call was sent to has ended, as a shell counts, if that is why it failed. The
/// agent says it in words: `exited with status 3`, `was killed by SIGKILL (signal 9)`.
fn has_ended(error: &CallError) -> Option<i32> {
    let CallError::Remote(error) = error else {
        return None;
    };
    if error.kind != ErrorKind::LaneDied {
        return None;
    }
    let number_after = |word: &str| -> Option<i32> {
        let (_, rest) = error.message.rsplit_once(word)?;
        let end = rest.find(|digit: char| !digit.is_ascii_digit());
        rest[..end.unwrap_or(rest.len())].parse().ok()
    };
    let signalled = number_after("signal ").map(|signal| 128 + signal);
    Some(signalled.or_else(|| number_after("status ")).unwrap_or(0))
}

/// The workers of a VM that have a handle.
#[derive(Debug, Default)]
pub(crate) struct Workers(Mutex<Vec<Weak<Inner>>>);

impl Workers {
    fn add(&self, worker: &Worker) {
        let mut held = lock(&self.0);
        held.retain(|worker| worker.strong_count() > 0);
        held.push(Arc::downgrade(&worker.0));
    }

    /// The VM was put back: those that are there again are in the care of their scopes again.
    pub(crate) fn come_back(&self) {
        let held: Vec<_> = {
            let held = lock(&self.0);
            held.iter().filter_map(Weak::upgrade).map(Worker).collect()
        };
        for worker in held {
            let (seat, vm) = (&worker.0.seat, &worker.0.vm);
            if !seat.is_gone(vm) && vm.has(seat.mark) {
                worker.0.place.take_again(Arc::new(worker.clone()));
            }
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.surface.subject())
    }
}

impl Close for Worker {
    fn subject(&self) -> String {
        Self::subject(self)
    }

    fn close(&self) -> Closing<'_> {
        Box::pin(Self::close(self))
    }

    fn guest(&self) -> Option<GuestKey> {
        Some(self.vm().guest_key())
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Worker").field(&self.subject()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use provium_protocol::message::WireError;

    #[test]
    fn an_end_is_read_as_a_shell_counts() {
        let code = |kind, message: &str| {
            has_ended(&CallError::Remote(WireError {
                kind,
                errno: 0,
                message: format!("its process in the guest {message}"),
            }))
        };
        assert_eq!(
            code(ErrorKind::LaneDied, "was killed by SIGKILL (signal 9)"),
            Some(137)
        );
        assert_eq!(
            code(ErrorKind::LaneDied, "was killed by signal 34"),
            Some(162)
        );
        assert_eq!(code(ErrorKind::LaneDied, "exited with status 3"), Some(3));
        assert_eq!(
            code(ErrorKind::LaneDied, "ended in an unknown way"),
            Some(0)
        );
        assert_eq!(code(ErrorKind::Invalid, "exited with status 3"), None);
    }
}
