//! From a specification to a running machine.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use provium_process::{Child, Command, Stdio};
use provium_qmp::{Client, Events, QmpError};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::handle::{AgentStreams, Machine};
use super::standby::Standby;
use super::supervisor::StderrTail;
use crate::accel::Accel;
use crate::arguments::{Surroundings, arguments, fd};
use crate::confinement::{Access, confine};
use crate::console::Console;
use crate::entropy;
use crate::error::VmmError;
use crate::initrd::{self, InitrdError};
use crate::qemu::Qemu;
use crate::saved::{GuestMemory, SavedMachine};
use crate::spec::MachineSpec;

/// QEMU greets within 0.1 s; a crowded host may need longer.
const GREETING_DEADLINE: Duration = Duration::from_secs(60);

/// Between the end of the control socket and that of its process.
const EXIT_GRACE: Duration = Duration::from_secs(2);

impl Machine {
    /// Starts a machine whose console goes on in `console`. Must be called inside a tokio runtime
    /// that lives as long as the machine.
    ///
    /// # Errors
    /// [`VmmError::Specification`] and [`VmmError::Unreadable`] before anything is started;
    /// [`VmmError::DiedAtStart`] with QEMU's words.
    pub async fn launch(
        spec: MachineSpec,
        qemu: &Qemu,
        console: Console,
    ) -> Result<Self, VmmError> {
        let name = spec.name.clone();
        let standby = Start::new(spec, None).await?.run(qemu).await?;
        let machine = standby.take(name, console).await;
        machine.resume().await?;
        Ok(machine)
    }
}

/// A machine that is to be started.
pub(super) struct Start {
    pub(super) spec: MachineSpec,
    pub(super) initrd: Option<File>,
    pub(super) memory: GuestMemory,
    pub(super) saved: Option<SavedMachine>,
}

impl Start {
    /// Opens what the machine needs.
    pub(super) async fn new(
        spec: MachineSpec,
        saved: Option<SavedMachine>,
    ) -> Result<Self, VmmError> {
        if let Some(why) = spec.fault() {
            return Err(VmmError::Specification {
                machine: spec.name,
                why,
            });
        }
        let unreadable = |path, source| VmmError::Unreadable {
            machine: spec.name.clone(),
            path,
            source,
        };
        File::open(&spec.kernel).map_err(|error| unreadable(spec.kernel.clone(), error))?;
        let parts = spec.initrd.clone();
        let joined = tokio::task::spawn_blocking(move || initrd::join(&parts)).await;
        let initrd = match joined {
            Ok(Ok(initrd)) => initrd,
            Ok(Err(InitrdError::Part(path, error))) => return Err(unreadable(path, error)),
            Ok(Err(InitrdError::Host(error))) => return Err(refused(&spec, "memory", error)),
            Err(error) => return Err(refused(&spec, "a thread", error.into())),
        };
        let memory = match &saved {
            None => GuestMemory::empty(spec.memory_mib() << 20)
                .map_err(|error| refused(&spec, "memory", error))?,
            Some(saved) => GuestMemory::of_file(&saved.ram(), saved.memory_bytes())
                .map_err(|error| unreadable(saved.ram(), error))?,
        };
        Ok(Self {
            spec,
            initrd,
            memory,
            saved,
        })
    }

    /// Starts QEMU; returns when the machine stands ready.
    pub(super) async fn run(self, qemu: &Qemu) -> Result<Standby, VmmError> {
        let launched = match self.attempt(qemu).await {
            Err(VmmError::DiedAtStart { stderr, .. }) if qemu.learn(&stderr) => {
                // `Qemu::has_sandbox` tells the caller, who tells the user.
                tracing::warn!(qemu = %qemu.path, stderr, "starting again without a sandbox");
                self.attempt(qemu).await?
            }
            started => started?,
        };
        Ok(Standby {
            start: self,
            version: qemu.version,
            launched,
        })
    }

    async fn attempt(&self, qemu: &Qemu) -> Result<Launched, VmmError> {
        let spec = &self.spec;
        let socket = || socket_pair().map_err(|error| refused(spec, "a socket", error));
        let file = |file: &File| match file.try_clone() {
            Ok(file) => Ok(OwnedFd::from(file)),
            Err(error) => Err(refused(spec, "a file", error)),
        };
        let mut command = Command::new(qemu.path.as_str());
        let around = Surroundings {
            sandbox: qemu.has_sandbox(),
            initrd: self.initrd.is_some(),
            restored: self.saved.is_some(),
        };
        command.args(arguments(spec, around));
        let mut ours = |number| {
            let (ours, theirs) = socket()?;
            command.inherit(number, theirs);
            Ok::<_, VmmError>(ours)
        };
        let qmp = ours(fd::QMP)?;
        let serial = ours(fd::CONSOLE)?;
        let streams = AgentStreams {
            virtio: ours(fd::AGENT)?,
            uart: ours(fd::AGENT_UART)?,
        };
        let served = self
            .saved
            .as_ref()
            .map_or(0, |saved| saved.facts.rng_served);
        let rng_served = Arc::new(AtomicU64::new(served));
        if let Some(seed) = spec.rng_seed {
            let (stream, served) = (ours(fd::ENTROPY)?, Arc::clone(&rng_served));
            // Ends with QEMU's end of the socket.
            tokio::spawn(async move { entropy::serve(stream, seed, &served).await });
        }
        if let Some(initrd) = &self.initrd {
            command.inherit(fd::INITRD, file(initrd)?);
        }
        command.inherit(fd::RAM, file(self.memory.file())?);
        if let Some(saved) = &self.saved {
            let devices = File::open(saved.devices());
            let devices = devices.map_err(|source| VmmError::Unreadable {
                machine: spec.name.clone(),
                path: saved.devices(),
                source,
            })?;
            command.inherit(fd::DEVICES, devices.into());
        }
        command.stdout(Stdio::Null).stderr(Stdio::Pipe);
        let kernel = (spec.kernel.as_std_path(), Access::Read);
        let ram = self.saved.as_ref().map(SavedMachine::ram);
        let ram = ram.as_ref().map(|ram| (ram.as_std_path(), Access::Write));
        let kvm = (spec.accel == Accel::Kvm).then(|| (Path::new("/dev/kvm"), Access::Write));
        confine(&mut command, [Some(kernel), ram, kvm].into_iter().flatten());
        tracing::debug!(
            machine = spec.name,
            command = command.to_line(),
            "launching"
        );

        let mut child = command.spawn()?;
        let stderr = StderrTail::follow(child.stderr.take());
        let met = async {
            let (client, mut events) = meet(spec, &child, qmp).await?;
            self.load(&child, &client, &mut events).await?;
            Ok((client, events))
        };
        let (client, events) = match met.await {
            Ok(met) => met,
            Err(missed) => return Err(explained(spec, missed, &child, stderr).await),
        };
        Ok(Launched {
            child,
            client,
            events,
            stderr,
            streams,
            serial,
            rng_served,
        })
    }
}

/// A QEMU whose machine stands ready.
pub(super) struct Launched {
    pub(super) child: Child,
    pub(super) client: Client,
    pub(super) events: Events,
    pub(super) stderr: StderrTail,
    pub(super) streams: AgentStreams,
    /// The console's.
    pub(super) serial: UnixStream,
    pub(super) rng_served: Arc<AtomicU64>,
}

/// Why there was no meeting.
pub(super) enum Missed {
    Control(QmpError),
    TooLate(&'static str, Duration),
    /// What was saved cannot be put into the machine.
    Saved(io::Error),
}

async fn meet(
    spec: &MachineSpec,
    child: &Child,
    qmp: UnixStream,
) -> Result<(Client, Events), Missed> {
    let connect = async {
        tokio::select! {
            biased;
            met = Client::connect(qmp) => met.map_err(Missed::Control),
            // Then its end of the socket is closed too, unless somebody else holds it.
            _ = child.wait() => Err(Missed::Control(QmpError::Closed(provium_qmp::Closed::Ended))),
        }
    };
    let (client, events) = timeout(GREETING_DEADLINE, connect)
        .await
        .map_err(|_| Missed::TooLate("its greeting", GREETING_DEADLINE))??;
    tracing::debug!(machine = spec.name, version = %client.greeting().version, "QEMU greets");
    Ok((client, events))
}

async fn explained(
    spec: &MachineSpec,
    missed: Missed,
    child: &Child,
    stderr: StderrTail,
) -> VmmError {
    let machine = spec.name.clone();
    let source = match missed {
        Missed::Control(source) => source,
        Missed::TooLate(command, deadline) => {
            return VmmError::Unresponsive {
                machine,
                command: command.to_owned(),
                deadline,
            };
        }
        Missed::Saved(source) => return VmmError::Restore { machine, source },
    };
    match timeout(EXIT_GRACE, child.wait()).await {
        Ok(Ok(exit)) => VmmError::DiedAtStart {
            machine,
            exit,
            stderr: stderr.finish().await,
        },
        Ok(Err(error)) => error.into(),
        Err(_) => VmmError::Control { machine, source },
    }
}

fn refused(spec: &MachineSpec, what: &'static str, source: io::Error) -> VmmError {
    VmmError::Host {
        machine: spec.name.clone(),
        what,
        source,
    }
}

/// Our end, and the one for QEMU.
fn socket_pair() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs.into()))
}
