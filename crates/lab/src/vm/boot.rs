//! From a VM's options to an agent that answers.
//!
//! A boot is from a template where that is allowed and one can be had or made, and cold otherwise.
//! Either way the guest is told who it is before the test sees it: its name, the time, randomness.

use crate::answer::{NoAnswer, answer_of};
use crate::apart::apart;
use crate::budget::{Grant, Need};
use crate::environment::EnvironmentError;
use crate::error::LabError;
use crate::lock::lock;
use crate::saved::{Base, Identity, host_name};
use crate::vm::handle::{Stage, Vm, VmState};
use crate::vm::options::VmOptions;
use crate::vm::running::{MachineNumber, Running};
use provium_events::{BootKind, Event};
use provium_guest::Channel;
use provium_image::GuestImage;
use provium_vmm::Machine;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Smallest guest memory that a Linux kernel comes up in, bytes.
const LEAST_MEMORY: u64 = 32 * 1024 * 1024;

/// A machine that runs, before it is the VM's.
pub(crate) struct Started {
    pub(crate) machine: Machine,
    pub(crate) channel: Channel,
    pub(crate) kind: BootKind,
    /// The profile that its guest was booted from.
    pub(crate) profile: String,
    /// Whose RAM it shares.
    pub(crate) base: Option<Arc<Base>>,
}

impl Vm {
    /// Boots it; returns when the agent has answered. Dropping the future ends the machine.
    pub async fn boot(&self, options: VmOptions) -> Result<(), LabError> {
        let vm = self.clone();
        self.apart("boot()", async move { vm.boot_here(options).await })
            .await
    }

    /// Runs `work` where the machine's I/O is.
    pub(crate) async fn apart<T: Send + 'static>(
        &self,
        call: &str,
        work: impl Future<Output = Result<T, LabError>> + Send + 'static,
    ) -> Result<T, LabError> {
        match apart(self.environment().runtime(), work).await {
            Ok(result) => result,
            Err(error) => Err(LabError::host(self.subject(), call, error)),
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
        let grant = self.grant("boot()", need).await?;
        let image = self.environment().image(&profile.name).await;
        let image = image.map_err(|error| self.host_error(error))?;
        let machine = self.start(&options, &image).await?;
        lock(&self.0.timeline).boot();
        *lock(&self.0.booted_with) = options;
        self.goes_on(machine, grant, started.elapsed());
        Ok(())
    }

    /// A running machine whose guest knows who it is.
    async fn start(&self, options: &VmOptions, image: &GuestImage) -> Result<Started, LabError> {
        if let Some(started) = self.boot_from_template(options, image).await? {
            return Ok(started);
        }
        let (machine, channel, _) = self.boot_cold_on_time(options, image).await?;
        self.introduce(&machine, &channel, options).await?;
        Ok(Started {
            machine,
            channel,
            kind: BootKind::Cold,
            profile: self.profile().to_owned(),
            base: None,
        })
    }

    /// Tells a guest that has just come up who it is.
    pub(crate) async fn introduce(
        &self,
        machine: &Machine,
        channel: &Channel,
        options: &VmOptions,
    ) -> Result<(), LabError> {
        let limit = self.agent_limit(options);
        let told = channel.renew(self.identity(options).renewal());
        let how = match answer_of(machine, limit, told).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => format!("the agent says: {error}"),
            Err(NoAnswer::Ended(how)) => self.with_reason(how),
            Err(NoAnswer::Late) => format!("its agent did not answer within {limit:?}"),
        };
        Err(self.boot_error(how))
    }

    /// Who the guest is after a boot.
    pub(crate) fn identity(&self, options: &VmOptions) -> Identity {
        Identity {
            realtime_ns: Some(options.initial_time_ns.unwrap_or_else(now_ns)),
            hostname: Some(host_name(self.name())),
            is_seeded: options.rng_seed.is_some(),
        }
    }

    /// How long its agent may take to answer.
    pub(crate) fn agent_limit(&self, options: &VmOptions) -> Duration {
        let limit = options
            .agent_timeout
            .unwrap_or(self.0.profile.agent_boot_timeout);
        self.environment().patient(limit)
    }

    /// Makes a machine the VM's own: from here on it is booted.
    pub(crate) fn goes_on(&self, started: Started, grant: Grant, boot_time: Duration) {
        let running = Arc::new(Running {
            machine: started.machine,
            channel: started.channel,
            number: MachineNumber::next(),
            boot_kind: started.kind,
            profile: started.profile,
            base: started.base,
            cid: self.environment().next_cid(),
            booted_at: Instant::now(),
            boot_time,
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
            memory_bytes: running.machine.memory(),
            cid: running.cid,
            boot: running.boot_kind,
            boot_ns: u64::try_from(running.boot_time.as_nanos()).unwrap_or(u64::MAX),
        });
    }

    /// Takes what a machine needs from the file's claim, or from the pool.
    pub(crate) async fn grant(&self, call: &str, need: Need) -> Result<Grant, LabError> {
        let environment = self.environment();
        environment.spares.make_room(environment.budget().room());
        let grant = self.0.file.acquire(need).await;
        grant.map_err(|source| LabError::Budget {
            subject: self.subject(),
            call: call.to_owned(),
            source,
        })
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

    pub(crate) fn boot_error(&self, how: String) -> LabError {
        LabError::Boot {
            subject: self.subject(),
            how,
            console: self.console_tail(),
        }
    }

    pub(crate) fn host_error(&self, error: EnvironmentError) -> LabError {
        LabError::host(self.subject(), "boot()", error)
    }
}

/// The host's time, nanoseconds since 1970.
pub(crate) fn now_ns() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}
