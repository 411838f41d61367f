//! From a specification to a running machine.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use provium_process::{Child, Command, Stdio};
use provium_qmp::{Client, Events, QmpError};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::handle::{AgentStreams, Machine, Told};
use super::resets::Resets;
use super::supervisor::{StderrTail, Supervisor};
use crate::arguments::{arguments, fd};
use crate::console::Console;
use crate::entropy;
use crate::error::VmmError;
use crate::initrd::{self, InitrdError};
use crate::qemu::Qemu;
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
        let machine = &spec.name;
        if let Some(why) = spec.fault() {
            return Err(VmmError::Specification {
                machine: machine.clone(),
                why,
            });
        }
        let unreadable = |path, source| VmmError::Unreadable {
            machine: machine.clone(),
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
        loop {
            match start(&spec, qemu, &console, initrd.as_ref()).await {
                Err(VmmError::DiedAtStart { stderr, .. }) if qemu.learn(&stderr) => {
                    tracing::warn!(qemu = %qemu.path, stderr, "starting again without a sandbox");
                }
                started => return started,
            }
        }
    }
}

async fn start(
    spec: &MachineSpec,
    qemu: &Qemu,
    console: &Console,
    initrd: Option<&File>,
) -> Result<Machine, VmmError> {
    let socket = || socket_pair().map_err(|error| refused(spec, "a socket", error));
    let mut command = Command::new(qemu.path.as_str());
    command.args(arguments(spec, qemu.has_sandbox(), initrd.is_some()));
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
    if let Some(seed) = spec.rng_seed {
        // Ends with QEMU's end of the socket.
        tokio::spawn(entropy::serve(ours(fd::ENTROPY)?, seed));
    }
    if let Some(initrd) = initrd {
        let file = initrd
            .try_clone()
            .map_err(|error| refused(spec, "a file", error))?;
        command.inherit(fd::INITRD, file.into());
    }
    command.stdout(Stdio::Null).stderr(Stdio::Pipe);
    tracing::debug!(
        machine = spec.name,
        command = command.to_line(),
        "launching"
    );

    let mut child = command.spawn()?;
    let stderr = StderrTail::follow(child.stderr.take());
    let (client, events) = match meet(spec, &child, qmp).await {
        Ok(met) => met,
        Err(error) => return Err(explained(spec, error, &child, stderr).await),
    };
    let told = Arc::new(Told::new());
    let pump = console.attach(serial, told.suspicions.clone()).await;
    let machine = Machine {
        name: spec.name.clone(),
        pid: child.id(),
        client,
        killer: child.killer(),
        console: console.clone(),
        streams: Mutex::new(Some(streams)),
        told: Arc::clone(&told),
    };
    let supervisor = Supervisor {
        child,
        events,
        stderr,
        told,
        console: console.clone(),
        pump,
        resets: Resets::default(),
    };
    tokio::spawn(supervisor.run());
    machine.resume().await?;
    Ok(machine)
}

/// Why there was no meeting.
enum Missed {
    Control(QmpError),
    TooLate,
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
        .map_err(|_| Missed::TooLate)??;
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
        Missed::TooLate => {
            let command = "its greeting".to_owned();
            return VmmError::Unresponsive {
                machine,
                command,
                deadline: GREETING_DEADLINE,
            };
        }
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
