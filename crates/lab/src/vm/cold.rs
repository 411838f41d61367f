//! A boot from kernel and initial RAM disk, up to an agent that answers.

use crate::environment::EnvironmentError;
use crate::error::LabError;
use crate::guest::answer::{NoAnswer, answer_of_boot, end_of};
use crate::vm::boot::Terms;
use crate::vm::handle::Vm;
use crate::vm::options::VmOptions;
use provium_guest::{Channel, ModuleProvider, ModulesFuture};
use provium_image::{AGENT_BUILD, BootRequest, GuestImage, ImageError};
use provium_protocol::message::{Hello, HostHello, ModuleFile};
use provium_vmm::{InitrdPart, Machine, MachineSpec};
use std::sync::Arc;

/// The host name of a guest until its identity is set. A template is saved before that.
const UNNAMED: &str = "guest";

impl Vm {
    /// A machine that has booted, and the session with its agent.
    pub(crate) async fn boot_cold(
        &self,
        terms: &Terms,
        image: &GuestImage,
    ) -> Result<(Machine, Channel), LabError> {
        let machine = self.launch(&terms.options, image).await?;
        let (channel, hello) = self.meet_agent(&machine, terms, image).await?;
        if !hello.complaints.is_empty() {
            return Err(self.boot_error(format!("the agent says: {}", hello.complaints.join("; "))));
        }
        Ok((machine, channel))
    }

    /// The machine that the options and the profile ask for; `initrd` is left empty.
    pub(crate) fn spec(
        &self,
        options: &VmOptions,
        image: &GuestImage,
    ) -> Result<MachineSpec, LabError> {
        let profile = &self.0.profile;
        let accel = self
            .environment()
            .accel(profile)
            .map_err(|error| self.host_error(error))?;
        Ok(MachineSpec {
            name: self.name().to_owned(),
            kernel: image.kernel.clone(),
            initrd: Vec::new(),
            cmdline: provium_vmm::kernel_arguments(
                accel,
                profile.cmdline_defaults,
                &options.cmdline(profile),
                profile.inject_agent,
            ),
            memory: options.memory(profile),
            cpus: options.cpus(profile),
            accel,
            rng_seed: options.rng_seed,
            initial_time_ns: options.initial_time_ns,
        })
    }

    async fn launch(&self, options: &VmOptions, image: &GuestImage) -> Result<Machine, LabError> {
        let profile = Arc::clone(&self.0.profile);
        let host = self
            .environment()
            .host()
            .ok_or_else(|| self.host_error(EnvironmentError::NoMachines))?;
        let mut spec = self.spec(options, image)?;
        let (from, files) = (image.clone(), options.files.clone().unwrap_or_default());
        // Modules are read from the disk, and may have to be unpacked.
        let archives = tokio::task::spawn_blocking(move || {
            let archives = from.boot_archive(&BootRequest {
                hostname: UNNAMED.to_owned(),
                modules: &profile.modules,
                files: &files,
                inject_agent: profile.inject_agent,
            })?;
            Ok((from.memory_need(&archives)?, archives))
        });
        let archives: Result<_, ImageError> = archives
            .await
            .map_err(|error| LabError::host(self.subject(), "boot()", error))?;
        let (need, archives) = archives.map_err(|error| match error {
            ImageError::BadPath { .. } => {
                let why = format!("files: {error}");
                LabError::invalid(self.subject(), "boot()", why)
            }
            error => self.host_error(EnvironmentError::Image(error)),
        })?;
        if spec.memory < need.least() {
            let why = format!("memory is {} MiB, but {need}", spec.memory >> 20);
            return Err(LabError::invalid(self.subject(), "boot()", why));
        }
        let before = std::iter::once(InitrdPart::Bytes(archives.before.into()));
        let images = image.initrds.iter().cloned().map(InitrdPart::File);
        let after = std::iter::once(InitrdPart::Bytes(archives.after.into()));
        spec.initrd = before.chain(images).chain(after).collect();
        let machine = Machine::launch(spec, &host.qemu, self.console().log()).await;
        machine.map_err(|error| self.host_error(EnvironmentError::Machine(error)))
    }

    /// Waits for the agent, and for everything that could keep it from coming.
    async fn meet_agent(
        &self,
        machine: &Machine,
        terms: &Terms,
        image: &GuestImage,
    ) -> Result<(Channel, Hello), LabError> {
        let Some(streams) = machine.take_agent_streams() else {
            return Err(self.boot_error("the agent's streams are taken already".to_owned()));
        };
        let limit = self.limit_of(terms);
        let asks = modules_from(image);
        let establish = Channel::establish(
            vec![streams.virtio, streams.uart],
            host_hello(),
            AGENT_BUILD,
            asks,
        );
        let no_answer = match answer_of_boot(machine, 0, limit.time, establish).await {
            Ok(Ok(met)) => return Ok(met),
            // The streams end with QEMU, whose end says more.
            Ok(Err(error)) => match end_of(machine).await {
                Some(end) => NoAnswer::Ended(end),
                None => return Err(self.boot_error(error.to_string())),
            },
            Err(no_answer) => no_answer,
        };
        Err(self.unanswered(no_answer, &limit))
    }
}

/// The greeting of a new session, whose number the channel chooses.
pub(crate) fn host_hello() -> HostHello {
    HostHello {
        protocol: provium_protocol::PROTOCOL_VERSION,
        build: AGENT_BUILD.to_owned(),
        session: 0,
    }
}

/// Provides the kernel modules of a guest that was booted from `image`.
pub(crate) fn modules_from(image: &GuestImage) -> Arc<dyn ModuleProvider> {
    Arc::new(ModulesFrom(image.clone()))
}

/// The modules of a guest image.
struct ModulesFrom(GuestImage);

impl ModuleProvider for ModulesFrom {
    fn modules(&self, name: String) -> ModulesFuture<'_> {
        let modules = self.0.modules.clone();
        let read = move || {
            let Some(found) = modules.and_then(|index| index.resolve(&name)) else {
                return Vec::new();
            };
            if found.is_empty() {
                // Built into the kernel: a module without an object says so.
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
        Box::pin(async move { tokio::task::spawn_blocking(read).await.unwrap_or_default() })
    }
}
