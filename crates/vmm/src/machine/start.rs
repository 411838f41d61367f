//! Starts QEMU for a machine, connects to its control socket, and loads what was saved.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use provium_process::{Child, Command, Stdio};
use provium_qmp::{Client, CloseReason, Events, QmpError, Version};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::devices::{Disks, Nics};
use super::guest_end::GuestEndWatch;
use super::inputs::{Inputs, host_error};
use super::load::load;
use super::start_error::StartError;
use super::stderr::StderrTail;
use crate::accel::Accel;
use crate::arguments::{LaunchContext, arguments, fd};
use crate::confinement::{Access, confine};
use crate::device::NicSlot;
use crate::entropy;
use crate::error::VmmError;
use crate::qemu::Qemu;
use crate::saved::SavedMachine;
use crate::spec::MachineSpec;

/// QEMU greets within 0.1 s; a crowded host may need longer.
const GREETING_DEADLINE: Duration = Duration::from_secs(60);

/// A machine that is to be started.
pub(super) struct LaunchRequest {
    pub(super) spec: MachineSpec,
    pub(super) saved: Option<SavedMachine>,
    pub(super) inputs: Inputs,
}

/// The two streams to the agent. Which one it uses shows when it announces itself.
#[derive(Debug)]
pub struct AgentStreams {
    /// The virtio-serial port.
    pub virtio: UnixStream,
    /// The second UART.
    pub uart: UnixStream,
}

/// A QEMU whose machine is ready, with its vCPUs stopped.
pub(super) struct QemuProcess {
    pub(super) child: Child,
    pub(super) version: Version,
    pub(super) client: Client,
    pub(super) events: Events,
    pub(super) stderr: StderrTail,
    /// The console's.
    pub(super) serial: UnixStream,
    pub(super) rng_served: Arc<AtomicU64>,
    pub(super) nics: Arc<Nics>,
    pub(super) disks: Arc<Disks>,
    pub(super) guest_end: GuestEndWatch,
}

impl LaunchRequest {
    /// Checks the specification, and opens what the machine starts from.
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
        let inputs = Inputs::open(&spec, saved.as_ref()).await?;
        Ok(Self {
            spec,
            saved,
            inputs,
        })
    }

    /// Starts QEMU; returns when the machine is ready to run.
    pub(super) async fn run(&self, qemu: &Qemu) -> Result<(QemuProcess, AgentStreams), VmmError> {
        match self.attempt(qemu).await {
            Err(VmmError::DiedAtStart { stderr, .. }) if qemu.learn(&stderr) => {
                // `Qemu::has_sandbox` is how the caller learns of it, and reports it to the user.
                tracing::warn!(qemu = %qemu.path, stderr, "starting again without a sandbox");
                self.attempt(qemu).await
            }
            started => started,
        }
    }

    async fn attempt(&self, qemu: &Qemu) -> Result<(QemuProcess, AgentStreams), VmmError> {
        let spec = &self.spec;
        let mut command = self.command(qemu);
        let sockets = self.pass_sockets(&mut command)?;
        self.pass_files(&mut command)?;
        self.confine(&mut command, qemu);
        let line = command.to_line();
        tracing::debug!(machine = spec.name, command = line, "launching");
        let mut child = command.spawn()?;
        let stderr = StderrTail::follow(child.stderr.take());
        let (client, events) = match self.connect_and_load(&child, sockets.qmp).await {
            Ok(ready) => ready,
            Err(error) => return Err(error.explain(spec.name.clone(), &child, stderr).await),
        };
        let process = QemuProcess {
            child,
            version: qemu.version,
            guest_end: GuestEndWatch::new(client.events()),
            client,
            events,
            stderr,
            serial: sockets.serial,
            rng_served: sockets.rng_served,
            nics: Arc::new(Nics::new(sockets.nics)),
            disks: Arc::new(Disks::new(&spec.disks)),
        };
        Ok((process, sockets.agent))
    }

    fn command(&self, qemu: &Qemu) -> Command {
        let mut command = Command::new(qemu.path.as_str());
        let context = LaunchContext {
            sandbox: qemu.has_sandbox(),
            initrd: self.inputs.initrd.is_some(),
            restored: self.inputs.saved.is_some(),
            read_only_ram: qemu.maps_read_only(),
        };
        command.args(arguments(&self.spec, context));
        command.stdout(Stdio::Null).stderr(Stdio::Pipe);
        command
    }

    /// Makes the sockets between the host and the machine, and gives QEMU its ends.
    fn pass_sockets(&self, command: &mut Command) -> Result<HostSockets, VmmError> {
        let spec = &self.spec;
        let failed = |error| host_error(spec, "a socket", error);
        let mut stream = |number| {
            let (ours, theirs) = socket_pair().map_err(failed)?;
            command.inherit(number, theirs);
            Ok::<_, VmmError>(ours)
        };
        let qmp = stream(fd::QMP)?;
        let serial = stream(fd::CONSOLE)?;
        let agent = AgentStreams {
            virtio: stream(fd::AGENT)?,
            uart: stream(fd::AGENT_UART)?,
        };
        let served = (self.inputs.saved.as_ref()).map_or(0, |saved| saved.rng_served);
        let rng_served = Arc::new(AtomicU64::new(served));
        if let Some(seed) = spec.rng_seed {
            let (stream, served) = (stream(fd::ENTROPY)?, Arc::clone(&rng_served));
            // Ends with QEMU's end of the socket.
            tokio::spawn(async move { entropy::serve(stream, seed, &served).await });
        }
        let mut nics = Vec::new();
        for slot in &spec.nics {
            let (ours, theirs) = StdUnixStream::pair().map_err(failed)?;
            command.inherit(fd::NICS + i32::from(u8::from(*slot)), theirs.into());
            nics.push((*slot, Some(ours)));
        }
        Ok(HostSockets {
            qmp,
            serial,
            agent,
            rng_served,
            nics,
        })
    }

    /// Gives QEMU what it reads and maps.
    fn pass_files(&self, command: &mut Command) -> Result<(), VmmError> {
        let Inputs {
            initrd,
            memory,
            saved,
            ..
        } = &self.inputs;
        let initrd = initrd.as_ref().map(|initrd| (fd::INITRD, initrd));
        let devices = saved.as_ref().map(|saved| (fd::DEVICES, &saved.devices));
        let files = [initrd, Some((fd::RAM, memory.file())), devices];
        for (number, file) in files.into_iter().flatten() {
            let file = file.try_clone();
            let file = file.map_err(|error| host_error(&self.spec, "a file", error))?;
            command.inherit(number, file.into());
        }
        Ok(())
    }

    /// Leaves QEMU no more of the host than it needs.
    fn confine(&self, command: &mut Command, qemu: &Qemu) {
        let kernel = (self.spec.kernel.as_std_path(), Access::Read);
        let ram = self.saved.as_ref().map(SavedMachine::ram);
        let access = match qemu.maps_read_only() {
            true => Access::Read,
            false => Access::Write,
        };
        let ram = ram.as_ref().map(|ram| (ram.as_std_path(), access));
        let kvm = (self.spec.accel == Accel::Kvm).then(|| (Path::new("/dev/kvm"), Access::Write));
        confine(command, [Some(kernel), ram, kvm].into_iter().flatten());
    }

    async fn connect_and_load(
        &self,
        child: &Child,
        qmp: UnixStream,
    ) -> Result<(Client, Events), StartError> {
        let (client, mut events) = connect(&self.spec, child, qmp).await?;
        if let Some(saved) = &self.inputs.saved {
            load(saved, &self.inputs.memory, child.id(), &client, &mut events).await?;
        }
        Ok((client, events))
    }
}

/// The host's ends of a machine's sockets.
struct HostSockets {
    qmp: UnixStream,
    serial: UnixStream,
    agent: AgentStreams,
    /// Bytes that the machine's generator of random numbers has been given.
    rng_served: Arc<AtomicU64>,
    nics: Vec<(NicSlot, Option<StdUnixStream>)>,
}

/// Connects to the control socket.
async fn connect(
    spec: &MachineSpec,
    child: &Child,
    qmp: UnixStream,
) -> Result<(Client, Events), StartError> {
    let connected = timeout(GREETING_DEADLINE, async {
        tokio::select! {
            biased;
            connected = Client::connect(qmp) => connected,
            // The socket is closed then, too, unless another process holds QEMU's end of it.
            _ = child.wait() => Err(QmpError::Closed(CloseReason::Ended)),
        }
    });
    let connected = connected.await;
    let connected =
        connected.map_err(|_| StartError::TimedOut("its greeting", GREETING_DEADLINE))?;
    let (client, events) = connected?;
    tracing::debug!(machine = spec.name, version = %client.greeting().version, "QEMU greets");
    Ok((client, events))
}

/// Our end, and the one for QEMU.
fn socket_pair() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs.into()))
}
