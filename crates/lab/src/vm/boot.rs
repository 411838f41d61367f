//! From a VM's options to an agent that answers.

use crate::budget::Need;
use crate::environment::EnvironmentError;
use crate::error::LabError;
use crate::vm::handle::{Stage, Vm, VmState};
use crate::vm::options::VmOptions;
use crate::vm::running::{Running, last_word, told};
use provium_events::{BootKind, Event};
use provium_guest::{AnswerAsk, Answering, Channel};
use provium_image::{AGENT_BUILD, BootRequest, GuestImage};
use provium_protocol::message::{Answer, Ask, Hello, HostHello, ModuleFile};
use provium_vmm::{InitrdPart, Machine, MachineSpec};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::task::{JoinError, JoinHandle};

/// Bytes that a booting guest's random generator is rekeyed with.
const ENTROPY_BYTES: usize = 32;

/// Smallest guest memory that a Linux kernel comes up in, bytes.
const LEAST_MEMORY: u64 = 32 * 1024 * 1024;

impl Vm {
    /// Boots it; returns when the agent has answered. Dropping the future ends the machine.
    pub async fn boot(&self, options: VmOptions) -> Result<(), LabError> {
        // The machine's I/O tasks belong to the run's runtime, not to the caller's, which may stand
        // still for as long as a test computes.
        let vm = self.clone();
        let boot = self
            .environment()
            .runtime()
            .spawn(async move { vm.boot_here(options).await });
        match AbortOnDrop(boot).await {
            Ok(result) => result,
            Err(error) => Err(LabError::host(self.subject(), "boot()", error)),
        }
    }

    async fn boot_here(&self, options: VmOptions) -> Result<(), LabError> {
        let _lifecycle = self.0.lifecycle.lock().await;
        let stage = self.0.stage.borrow().clone();
        if !matches!(stage.state(), VmState::Created | VmState::Shutdown) || self.is_closed() {
            return Err(self.wrong_state("boot()", &stage, "created or shutdown"));
        }
        let options = options.over(&self.0.options);
        let started = Instant::now();
        let profile = &self.0.profile;
        let need = Need::of_vm(options.memory(profile), options.cpus(profile));
        self.check(&options)?;
        let grant = self
            .0
            .file
            .acquire(need)
            .await
            .map_err(|source| LabError::Budget {
                subject: self.subject(),
                call: "boot()".to_owned(),
                source,
            })?;
        let image = self.environment().image(&profile.name).await;
        let image = image.map_err(|error| self.host_error(error))?;
        let machine = self.launch(&options, &image).await?;
        let (channel, hello) = self.meet_agent(&machine, &options, &image).await?;
        if !hello.complaints.is_empty() {
            return Err(self.boot_error(format!("the agent says: {}", hello.complaints.join("; "))));
        }
        let running = Arc::new(Running {
            machine,
            channel,
            generation: AtomicU64::new(1),
            cid: self.environment().next_cid(),
            booted_at: Instant::now(),
            boot_time: started.elapsed(),
            grant: Mutex::new(Some(grant)),
            watch: Mutex::new(None),
        });
        self.0
            .stage
            .send_replace(Stage::Booted(Arc::clone(&running)));
        self.watch_over(&running);
        self.environment().sink().emit(Event::VmSpawned {
            file: self.0.file.path.clone(),
            vm_name: self.name().to_owned(),
            profile: self.profile().to_owned(),
            memory_bytes: options.memory(profile),
            cid: running.cid,
            boot: BootKind::Cold,
            boot_ns: u64::try_from(running.boot_time.as_nanos()).unwrap_or(u64::MAX),
        });
        Ok(())
    }

    fn check(&self, options: &VmOptions) -> Result<(), LabError> {
        let profile = &self.0.profile;
        let invalid = |why: String| Err(LabError::invalid(self.subject(), "boot()", why));
        if options.memory(profile) < LEAST_MEMORY {
            return invalid(format!(
                "memory is {} bytes; a guest needs at least 32M",
                options.memory(profile)
            ));
        }
        if !(1..=255).contains(&options.cpus(profile)) {
            return invalid(format!(
                "cpus is {}; 1 to 255 are possible",
                options.cpus(profile)
            ));
        }
        for file in options.files.iter().flatten() {
            if !file.path.starts_with('/') || file.path.contains('\0') {
                return invalid(format!("files: `{}` is no absolute path", file.path));
            }
        }
        Ok(())
    }

    async fn launch(&self, options: &VmOptions, image: &GuestImage) -> Result<Machine, LabError> {
        let profile = &self.0.profile;
        let environment = self.environment();
        let host = environment
            .host()
            .ok_or_else(|| self.host_error(EnvironmentError::NoMachines))?;
        let accel = environment
            .accel(profile)
            .map_err(|error| self.host_error(error))?;
        let archives = image.boot_archive(&BootRequest {
            hostname: host_name(self.name()),
            modules: &profile.modules,
            files: options.files.as_deref().unwrap_or_default(),
            inject_agent: profile.inject_agent,
        });
        let archives = archives.map_err(|error| self.host_error(EnvironmentError::Image(error)))?;
        let before = std::iter::once(InitrdPart::Bytes(archives.before.into()));
        let images = image.initrds.iter().cloned().map(InitrdPart::File);
        let after = std::iter::once(InitrdPart::Bytes(archives.after.into()));
        let spec = MachineSpec {
            name: self.name().to_owned(),
            kernel: image.kernel.clone(),
            initrd: before.chain(images).chain(after).collect(),
            cmdline: provium_vmm::kernel_arguments(
                accel,
                &options.cmdline(profile),
                profile.inject_agent,
            ),
            memory: options.memory(profile),
            cpus: options.cpus(profile),
            accel,
            rng_seed: options.rng_seed,
            initial_time_ns: options.initial_time_ns,
        };
        let machine = Machine::launch(spec, &host.qemu, self.console().log()).await;
        machine.map_err(|error| self.host_error(EnvironmentError::Machine(error)))
    }

    /// Waits for the agent, and for everything that could keep it from coming.
    async fn meet_agent(
        &self,
        machine: &Machine,
        options: &VmOptions,
        image: &GuestImage,
    ) -> Result<(Channel, Hello), LabError> {
        let Some(streams) = machine.take_agent_streams() else {
            return Err(self.boot_error("the agent's streams are taken already".to_owned()));
        };
        let limit = options
            .agent_timeout
            .unwrap_or(self.0.profile.agent_boot_timeout);
        let limit = self.environment().patient(limit);
        let asks: Arc<dyn AnswerAsk> = Arc::new(ModulesFrom(image.clone()));
        let establish = Channel::establish(
            vec![streams.virtio, streams.uart],
            self.hello(options),
            AGENT_BUILD,
            asks,
        );
        let mut ended = machine.ended();
        let mut suspicions = machine.suspicions();
        let suspicion = tokio::select! {
            biased;
            met = establish => return met.map_err(|error| self.boot_error(error.to_string())),
            () = async { drop(ended.wait_for(Option::is_some).await) } => None,
            Ok(suspicion) = suspicions.recv() => Some(suspicion),
            () = tokio::time::sleep(limit) => return Err(self.boot_error(format!(
                "the agent did not answer within {limit:?}; if the guest needs longer, raise \
                 `agent_timeout` or the profile's `agent_boot_timeout`"
            ))),
        };
        let how = match suspicion {
            Some(suspicion) => last_word(machine, &suspicion).await,
            None => told(&ended, "QEMU ended"),
        };
        Err(self.boot_error(self.with_reason(how)))
    }

    /// What the agent is told when it comes up, now and after each reset.
    pub(crate) fn hello(&self, options: &VmOptions) -> HostHello {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        let now = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        HostHello {
            protocol: provium_protocol::PROTOCOL_VERSION,
            build: AGENT_BUILD.to_owned(),
            session: 0,
            realtime_ns: Some(options.initial_time_ns.unwrap_or(now)),
            hostname: None,
            entropy: entropy(),
        }
    }

    fn boot_error(&self, how: String) -> LabError {
        LabError::Boot {
            subject: self.subject(),
            how,
            console: self.console_tail(),
        }
    }

    fn host_error(&self, error: EnvironmentError) -> LabError {
        LabError::host(self.subject(), "boot()", error)
    }
}

/// A task that ends with whoever waits for it.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Future for AbortOnDrop<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Answers a guest's `modprobe` from its image's modules.
struct ModulesFrom(GuestImage);

impl AnswerAsk for ModulesFrom {
    fn answer(&self, ask: Ask) -> Answering<'_> {
        let Ask::Module { name } = ask;
        let modules = self.0.modules.clone();
        let read = move || {
            let Some(found) = modules.and_then(|index| index.resolve(&name)) else {
                return Vec::new();
            };
            if found.is_empty() {
                // Known, and in the kernel already: told by a module without an object.
                return vec![ModuleFile {
                    name,
                    object: Vec::new().into(),
                }];
            }
            let files = found.iter().map(|module| {
                let object = module.read().ok()?;
                Some(ModuleFile {
                    name: module.name().to_owned(),
                    object: object.into(),
                })
            });
            files.collect::<Option<Vec<_>>>().unwrap_or_default()
        };
        Box::pin(async move {
            Answer::Modules(tokio::task::spawn_blocking(read).await.unwrap_or_default())
        })
    }
}

/// A VM's name as a host name: letters, digits and hyphens, at most 63.
fn host_name(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    let text: String = name.chars().map(plain).take(63).collect();
    let text = text.trim_matches('-');
    if text.is_empty() {
        "guest".to_owned()
    } else {
        text.to_owned()
    }
}

fn entropy() -> Vec<u8> {
    let mut bytes = vec![0; ENTROPY_BYTES];
    // What the kernel cannot give now, the guest does without: it has a generator of its own.
    if rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).is_err() {
        bytes.clear();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_valid_whatever_the_vm_is_called() {
        assert_eq!(host_name("Web 1"), "web-1");
        assert_eq!(host_name("--é--"), "guest");
        assert_eq!(host_name(&"x".repeat(100)).len(), 63);
    }
}
