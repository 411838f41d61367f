//! Starts QEMU for a machine, connects to its control socket, and loads what was saved.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
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
        let (spec, inputs) = (&self.spec, &self.inputs);
        let mut command = Command::new(qemu.path.as_str());
        let context = LaunchContext {
            sandbox: qemu.has_sandbox(),
            initrd: inputs.initrd.is_some(),
            restored: inputs.saved.is_some(),
            read_only_ram: qemu.maps_read_only(),
        };
        command.args(arguments(spec, context));
        let mut stream = |number| {
            let pair = socket_pair().map_err(|error| host_error(spec, "a socket", error));
            let (ours, theirs) = pair?;
            command.inherit(number, theirs);
            Ok::<_, VmmError>(ours)
        };
        let qmp = stream(fd::QMP)?;
        let serial = stream(fd::CONSOLE)?;
        let streams = AgentStreams {
            virtio: stream(fd::AGENT)?,
            uart: stream(fd::AGENT_UART)?,
        };
        let served = inputs.saved.as_ref().map_or(0, |saved| saved.rng_served);
        let rng_served = Arc::new(AtomicU64::new(served));
        if let Some(seed) = spec.rng_seed {
            let (stream, served) = (stream(fd::ENTROPY)?, Arc::clone(&rng_served));
            // Ends with QEMU's end of the socket.
            tokio::spawn(async move { entropy::serve(stream, seed, &served).await });
        }
        let mut nics = Vec::new();
        for slot in &spec.nics {
            let pair = std::os::unix::net::UnixStream::pair();
            let (ours, theirs) = pair.map_err(|error| host_error(spec, "a socket", error))?;
            command.inherit(fd::NICS + i32::from(u8::from(*slot)), theirs.into());
            nics.push((*slot, Some(ours)));
        }
        let mut inherit = |number, file: &File| {
            let file = file.try_clone();
            let file = file.map_err(|error| host_error(spec, "a file", error))?;
            command.inherit(number, file.into());
            Ok::<_, VmmError>(())
        };
        if let Some(initrd) = &inputs.initrd {
            inherit(fd::INITRD, initrd)?;
        }
        inherit(fd::RAM, inputs.memory.file())?;
        if let Some(saved) = &inputs.saved {
            inherit(fd::DEVICES, &saved.devices)?;
        }
        command.stdout(Stdio::Null).stderr(Stdio::Pipe);
        let kernel = (spec.kernel.as_std_path(), Access::Read);
        let ram = self.saved.as_ref().map(SavedMachine::ram);
        let access = match qemu.maps_read_only() {
            true => Access::Read,
            false => Access::Write,
        };
        let ram = ram.as_ref().map(|ram| (ram.as_std_path(), access));
        let kvm = (spec.accel == Accel::Kvm).then(|| (Path::new("/dev/kvm"), Access::Write));
        confine(&mut command, [Some(kernel), ram, kvm].into_iter().flatten());
        tracing::debug!(
            machine = spec.name,
            command = command.to_line(),
            "launching"
        );

        let mut child = command.spawn()?;
        let stderr = StderrTail::follow(child.stderr.take());
        let ready = async {
            let (client, mut events) = connect(spec, &child, qmp).await?;
            if let Some(saved) = &inputs.saved {
                load(saved, &inputs.memory, child.id(), &client, &mut events).await?;
            }
            Ok((client, events))
        };
        let ready: Result<_, StartError> = ready.await;
        let (client, events) = match ready {
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
            serial,
            rng_served,
            nics: Arc::new(Nics::new(nics)),
            disks: Arc::new(Disks::new(&spec.disks)),
        };
        Ok((process, streams))
    }
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
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs.into()))
}
