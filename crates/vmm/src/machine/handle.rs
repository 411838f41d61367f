//! The handle on a machine: what can be done to it.

use std::fs::File;
use std::io::{self, Read as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use camino::Utf8Path;
use provium_process::Killer;
use provium_qmp::{Client, Version};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::sync::{Mutex as AsyncMutex, broadcast, mpsc, watch};
use tokio::time::timeout;

use crate::console::{Console, Suspicion};
use crate::death::Death;
use crate::error::VmmError;
use crate::saved::GuestMemory;
use crate::spec::MachineSpec;
use crate::usage::{self, Usage};

/// QEMU's main loop answers in milliseconds; a host that swaps makes it seconds.
const COMMAND_DEADLINE: Duration = Duration::from_secs(30);

/// How long QEMU may take to end by itself before it is killed.
const QUIT_DEADLINE: Duration = Duration::from_secs(3);

/// What an ELF file begins with.
const ELF_MAGIC: &[u8; 4] = b"\x7fELF";

/// A running machine. Dropping it kills QEMU; [`Machine::quit`] ends it properly.
#[derive(Debug)]
pub struct Machine {
    /// What it was started as.
    pub(super) spec: MachineSpec,
    /// The QEMU that runs it.
    pub(super) version: Version,
    pub(super) memory: GuestMemory,
    /// Whether its RAM began as a saved machine's.
    pub(super) has_base: bool,
    pub(super) initrd: Option<File>,
    /// Bytes of the seeded random stream that the guest has had.
    pub(super) rng_served: Arc<AtomicU64>,
    pub(super) pid: u32,
    pub(super) client: Client,
    pub(super) killer: Killer,
    pub(super) console: Console,
    pub(super) streams: Mutex<Option<AgentStreams>>,
    /// What its console suggests.
    pub(super) suspicions: AsyncMutex<mpsc::Receiver<Suspicion>>,
    pub(super) told: Arc<Told>,
}

/// The two ways to the agent. Which one it uses shows when it announces itself.
#[derive(Debug)]
pub struct AgentStreams {
    /// The virtio-serial port.
    pub virtio: UnixStream,
    /// The second UART.
    pub uart: UnixStream,
}

/// What happens to a machine that stays a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineEvent {
    /// The guest reset the machine: it boots anew.
    Rebooted,
    /// The host reset it.
    Reset,
    /// Its vCPUs stopped.
    Paused,
    /// They go on.
    Resumed,
    /// The guest went to sleep (S3).
    Suspended,
    /// It was woken.
    Woken,
    /// The guest closed the agent's virtio port: the agent, or its driver, is gone. A reset closes it
    /// as well.
    PortClosed,
    /// The guest opened the agent's virtio port.
    PortOpened,
}

/// What the supervisor tells everybody.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) ended: watch::Sender<Option<Death>>,
    /// The process is reaped and the console complete.
    pub(super) gone: watch::Sender<bool>,
    pub(super) events: broadcast::Sender<MachineEvent>,
    /// How often the guest has reset the machine.
    pub(super) reboots: watch::Sender<u64>,
    /// The agent has answered since the last reset, so the next one is not the firmware's echo.
    pub(super) is_up: AtomicBool,
    /// Its owner wants its end.
    pub(super) quitting: AtomicBool,
}

impl Machine {
    /// The streams to the agent; they are given once.
    pub fn take_agent_streams(&self) -> Option<AgentStreams> {
        self.streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// The guest's console.
    pub fn console(&self) -> Console {
        self.console.clone()
    }

    /// How it ended, once it has. By then its console is complete.
    pub fn ended(&self) -> watch::Receiver<Option<Death>> {
        self.told.ended.subscribe()
    }

    /// The next thing that the console suggests; each is given once, and kept until somebody asks, so
    /// that none is missed between two who watch over the machine one after the other. Never comes
    /// back once the console has ended.
    pub async fn suspicion(&self) -> Suspicion {
        match self.suspicions.lock().await.recv().await {
            Some(suspicion) => suspicion,
            None => std::future::pending().await,
        }
    }

    /// Forgets what its console suggested so far: it was about a boot that is over.
    pub async fn forget_suspicions(&self) {
        let mut suspicions = self.suspicions.lock().await;
        while suspicions.try_recv().is_ok() {}
    }

    /// What happens to it, from now on.
    pub fn events(&self) -> broadcast::Receiver<MachineEvent> {
        self.told.events.subscribe()
    }

    /// How often the guest has reset the machine since it was started.
    pub fn reboots(&self) -> watch::Receiver<u64> {
        self.told.reboots.subscribe()
    }

    /// Notes that the guest's agent has answered. A reset from now on is the guest's own, however soon
    /// it comes after another one, and not the firmware's echo of that.
    pub fn note_answer(&self) {
        self.told.is_up.store(true, Ordering::Release);
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Its vCPUs.
    pub fn cpus(&self) -> u32 {
        self.spec.cpus
    }

    /// Its RAM, bytes.
    pub fn memory(&self) -> u64 {
        self.spec.memory
    }

    /// QEMU's process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it costs the host.
    ///
    /// # Errors
    /// [`VmmError::Usage`] once the process is gone.
    pub fn usage(&self) -> Result<Usage, VmmError> {
        let usage = if *self.told.gone.borrow() {
            Err(io::Error::from(io::ErrorKind::NotFound))
        } else {
            usage::of_process(self.pid)
        };
        usage.map_err(|source| VmmError::Usage {
            machine: self.spec.name.clone(),
            source,
        })
    }

    /// Whether QEMU itself is stopped, by SIGSTOP or by a tracer.
    pub fn is_stopped(&self) -> bool {
        !*self.told.gone.borrow() && usage::is_stopped(self.pid)
    }

    /// Stops its vCPUs; returns when they stand.
    ///
    /// # Errors
    /// This and the following: [`VmmError::Control`] if QEMU refuses or is gone,
    /// [`VmmError::Unresponsive`] if it does not answer.
    pub async fn pause(&self) -> Result<(), VmmError> {
        self.command("stop").await
    }

    /// Lets its vCPUs go on.
    ///
    /// # Errors
    /// As [`Machine::pause`].
    pub async fn resume(&self) -> Result<(), VmmError> {
        self.command("cont").await
    }

    /// Presses the reset button; returns when it is pressed, not when the guest is up.
    ///
    /// # Errors
    /// As [`Machine::pause`].
    pub async fn reset(&self) -> Result<(), VmmError> {
        let slept = self.sleeps().await?;
        self.command("system_reset").await?;
        if slept {
            // A machine that did not run before does not after it.
            self.resume().await?;
        }
        Ok(())
    }

    /// Presses the ACPI power button; what follows is up to the guest.
    ///
    /// # Errors
    /// As [`Machine::pause`].
    pub async fn power_button(&self) -> Result<(), VmmError> {
        self.command("system_powerdown").await
    }

    /// Whether the guest survives being woken from S3; see [`survives_waking`].
    pub fn can_wake(&self) -> bool {
        survives_waking(&self.spec.kernel)
    }

    /// Ends the machine; returns when its process is reaped. Ended already is fine.
    pub async fn quit(&self) {
        let mut gone = self.told.gone.subscribe();
        self.told.quitting.store(true, Ordering::Relaxed);
        let ended = timeout(QUIT_DEADLINE, async {
            // However it is answered, what counts is the end of the process.
            let asked = self.client.execute("quit", Value::Null).await;
            tracing::debug!(machine = self.spec.name, ?asked, "quit");
            gone.wait_for(|gone| *gone).await.is_ok()
        });
        if ended.await.is_err() {
            self.killer.kill();
            // An error means that the supervisor is gone, and with it the child.
            let _ = gone.wait_for(|gone| *gone).await;
        }
    }

    pub(super) async fn command(&self, command: &str) -> Result<(), VmmError> {
        self.command_with(command, Value::Null).await
    }

    pub(super) async fn command_with(&self, command: &str, with: Value) -> Result<(), VmmError> {
        self.answer(command, with).await.map(drop)
    }

    /// What QEMU answers.
    pub(super) async fn answer(&self, command: &str, with: Value) -> Result<Value, VmmError> {
        match timeout(COMMAND_DEADLINE, self.client.execute(command, with)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) => Err(VmmError::Control {
                machine: self.spec.name.clone(),
                source,
            }),
            Err(_) => Err(VmmError::Unresponsive {
                machine: self.spec.name.clone(),
                command: command.to_owned(),
                deadline: COMMAND_DEADLINE,
            }),
        }
    }

    /// Has QEMU's monitor for people do what its monitor for programs cannot.
    pub(super) async fn monitor(&self, command: String) -> Result<String, VmmError> {
        let arguments = json!({ "command-line": command });
        let said = self.answer("human-monitor-command", arguments).await?;
        Ok(said.as_str().unwrap_or_default().to_owned())
    }

    /// What the monitor for people was not expected to say.
    pub(super) fn unexpected(&self, said: &str) -> VmmError {
        VmmError::Monitor {
            machine: self.spec.name.clone(),
            said: said.trim().to_owned(),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.told.quitting.store(true, Ordering::Relaxed);
        self.killer.kill_and_reap();
    }
}

/// Whether a guest that was started from `kernel` survives being woken from S3. If that is an ELF image,
/// it does not: QEMU takes waking for a reset, at which it puts the image over the guest's memory again.
pub fn survives_waking(kernel: &Utf8Path) -> bool {
    let mut magic = [0; ELF_MAGIC.len()];
    let read = File::open(kernel).and_then(|mut kernel| kernel.read_exact(&mut magic));
    read.is_ok() && magic != *ELF_MAGIC
}

impl Told {
    pub(super) fn new() -> Self {
        Self {
            ended: watch::Sender::new(None),
            gone: watch::Sender::new(false),
            events: broadcast::Sender::new(64),
            reboots: watch::Sender::new(0),
            is_up: AtomicBool::new(false),
            quitting: AtomicBool::new(false),
        }
    }

    /// The first end stays.
    pub(super) fn end(&self, death: Death) {
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert(death);
            first
        });
    }
}
