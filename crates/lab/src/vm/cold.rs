//! A boot from kernel and initial RAM disk, up to an agent that answers.

use crate::disk::VmDisk;
use crate::environment::{EnvironmentError, Host};
use crate::error::LabError;
use crate::guest::wait::{GuestWait, RequestError};
use crate::vm::boot::Boot;
use crate::vm::identity::host_hello;
use crate::vm::modules::modules_of;
use crate::vm::rate::GuestClock;
use crate::vm::ready::await_ready;
use provium_guest::Channel;
use provium_image::{AGENT_BUILD, BootRequest, ImageError};
use provium_protocol::message::Hello;
use provium_vmm::{InitrdPart, Machine, MachineSpec};
use std::sync::Arc;

/// The host name of a guest that has no identity yet, as in a template.
const UNNAMED: &str = "guest";

/// The driver of the machine's NICs.
const NIC_DRIVER: &str = "virtio_net";

/// The driver of the machine's disks.
const DISK_DRIVER: &str = "virtio_blk";

impl Boot<'_> {
    /// A machine that has booted, and the session with its agent.
    pub(super) async fn cold(&self) -> Result<(Machine, Channel), LabError> {
        let machine = self.launch().await?;
        let (channel, hello) = self.connect(&machine).await?;
        if !hello.warnings.is_empty() {
            return Err(self.error(format!("the agent says: {}", hello.warnings.join("; "))));
        }
        Ok((machine, channel))
    }

    /// The machine that the options and the profile ask for; `initrd` is left empty.
    pub(super) fn spec(&self) -> Result<MachineSpec, LabError> {
        let (options, profile) = (&self.options, &self.vm.0.profile);
        let accel = self
            .environment()
            .accel(profile)
            .map_err(|error| self.host_error(error))?;
        let processor = &self.host()?.processor;
        Ok(MachineSpec {
            name: self.vm.name().to_owned(),
            kernel: self.image.kernel.clone(),
            initrd: Vec::new(),
            cmdline: provium_vmm::kernel_arguments(
                accel,
                processor,
                profile.cmdline_defaults,
                &options.cmdline(profile),
                profile.inject_agent,
            ),
            memory: options.memory(profile),
            cpus: options.cpus(profile),
            accel,
            rng_seed: options.rng_seed,
            initial_time_ns: options.initial_time_ns,
            nics: self.nics.iter().filter_map(|nic| nic.slot).collect(),
            disks: self.disks.devices(),
        })
    }

    /// The host's means to boot machines.
    pub(super) fn host(&self) -> Result<&Host, LabError> {
        let host = self.environment().host();
        host.ok_or_else(|| self.host_error(EnvironmentError::NoMachines))
    }

    async fn launch(&self) -> Result<Machine, LabError> {
        let (vm, options, image) = (self.vm, &self.options, &self.image);
        let profile = Arc::clone(&vm.0.profile);
        let host = self.host()?;
        let mut spec = self.spec()?;
        let modules = self.modules();
        let (from, files) = (Arc::clone(image), options.files.clone().unwrap_or_default());
        // Modules are read from the disk, and may have to be unpacked.
        let archives = tokio::task::spawn_blocking(move || {
            let archives = from.boot_archive(&BootRequest {
                hostname: UNNAMED.to_owned(),
                modules: &modules,
                files: &files,
                inject_agent: profile.inject_agent,
            })?;
            Ok((from.memory_need(&archives)?, archives))
        });
        let archives: Result<_, ImageError> = archives
            .await
            .map_err(|error| LabError::host(vm.subject(), "boot()", error))?;
        let (need, archives) = archives.map_err(|error| match error {
            ImageError::BadPath { .. } => {
                let why = format!("files: {error}");
                LabError::invalid(vm.subject(), "boot()", why)
            }
            error => self.host_error(EnvironmentError::Image(error)),
        })?;
        if spec.memory < need.least() {
            let why = format!("memory is {} MiB, but {need}", spec.memory >> 20);
            return Err(LabError::invalid(vm.subject(), "boot()", why));
        }
        let before = std::iter::once(InitrdPart::Bytes(archives.before.into()));
        let images = image.initrds.iter().cloned().map(InitrdPart::File);
        let after = std::iter::once(InitrdPart::Bytes(archives.after.into()));
        spec.initrd = before.chain(images).chain(after).collect();
        let failed = |error| self.host_error(EnvironmentError::Machine(error));
        let machine = Machine::launch_paused(spec, &host.qemu, vm.console().log()).await;
        let machine = machine.map_err(failed)?;
        // The kernel looks for its root long before the agent answers.
        let renewed = self.disks.renew_root(&vm.0, image);
        renewed.map_err(|error| LabError::host(vm.subject(), "boot()", error))?;
        let is_needed = |disk: &VmDisk| disk.is_root() || !self.is_of_template;
        let inserted = self.disks.insert(&machine, is_needed).await;
        inserted.map_err(|error| LabError::host(vm.subject(), "boot()", error))?;
        machine.resume().await.map_err(failed)?;
        Ok(machine)
    }

    /// A machine that has booted cold and is ready, and the session with its agent.
    pub(super) async fn cold_and_ready(&self) -> Result<(Machine, Channel, GuestClock), LabError> {
        let (machine, channel, clock) = self.cold_on_time().await?;
        if let Some(command) = &self.vm.0.profile.ready {
            let limit = self.limit().time;
            let ready = await_ready(&machine, &channel, command, limit).await;
            ready.map_err(|how| self.ended(how))?;
        }
        Ok((machine, channel, clock))
    }

    /// The modules that the agent loads at once: the profile's, and the drivers of NICs and disks.
    fn modules(&self) -> Vec<String> {
        let mut modules = self.vm.0.profile.modules.clone();
        let index = self.image.modules.as_ref();
        let drivers = [
            (NIC_DRIVER, !self.nics.is_empty()),
            (DISK_DRIVER, !self.disks.list().is_empty()),
        ];
        for (driver, is_needed) in drivers {
            if is_needed && index.is_some_and(|index| index.resolve(driver).is_some()) {
                modules.push(driver.to_owned());
            }
        }
        modules
    }

    /// Waits for the agent, or for anything that keeps it from starting.
    async fn connect(&self, machine: &Machine) -> Result<(Channel, Hello), LabError> {
        let Some(streams) = machine.take_agent_streams() else {
            return Err(self.error("the agent's streams are taken already".to_owned()));
        };
        let limit = self.limit();
        let establish = Channel::establish(
            vec![streams.virtio, streams.uart],
            host_hello(),
            AGENT_BUILD,
            modules_of(&self.image),
        );
        let wait = GuestWait::of_first_boot(machine, limit.time);
        match wait.reply(establish).await {
            Ok(connected) => Ok(connected),
            Err(RequestError::NoReply(why)) => Err(self.no_reply(why, &limit)),
            Err(RequestError::Failed(error)) => Err(self.error(error.to_string())),
        }
    }
}
