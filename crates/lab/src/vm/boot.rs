//! From a VM's options to an agent that answers.
//!
//! A boot is from a template where that is allowed and possible, and cold otherwise. Either way the guest gets
//! its identity before a test sees it: its name, the time, randomness.

use crate::environment::{Environment, EnvironmentError};
use crate::error::{LabError, chain};
use crate::guest::wait::{GuestWait, RequestError, WaitError};
use crate::lock::lock;
use crate::profile::LEAST_MEMORY;
use crate::resource::GuestChange;
use crate::vm::death::{boot_console_tail, with_reason};
use crate::vm::disk::{InsertTime, MachineDisks, disks_for_boot};
use crate::vm::handle::Vm;
use crate::vm::identity::{identity, refusal};
use crate::vm::install::install;
use crate::vm::nic::{VmNic, boot_nics, configure_network};
use crate::vm::running::StartedMachine;
use crate::vm::state::VmState;
use crate::vm_options::VmOptions;
use provium_events::BootKind;
use provium_guest::Channel;
use provium_image::GuestImage;
use provium_pool::resources_of_vm;
use provium_vmm::Machine;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How much of its caller's time is left for the error of a boot that fails.
const ERROR_GRACE: Duration = Duration::from_secs(1);

/// One boot of a VM. Many methods because each of its steps needs most of what it has.
pub(super) struct Boot<'a> {
    pub(super) vm: &'a Vm,
    pub(super) options: VmOptions,
    pub(super) image: Arc<GuestImage>,
    /// The NICs that the machine has from the start.
    pub(super) nics: Vec<VmNic>,
    /// Its disks.
    pub(super) disks: Arc<MachineDisks>,
    /// When its caller's time is up.
    until: Option<Instant>,
    /// A template is made of it, so its kernel finds placeholders instead of the disks.
    pub(super) is_of_template: bool,
}

/// How long the agent of a boot may take to answer; as text, with the settings that it results from.
pub(crate) struct Limit {
    pub(super) time: Duration,
    /// As the author or the profile set it.
    own: Duration,
    stretched: String,
    /// It is less than that, since the caller's time is up then.
    pub(super) is_cut: bool,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            time,
            own,
            stretched,
            ..
        } = self;
        match self.is_cut {
            true => write!(
                f,
                "{:.1} s, which is all that was left of the time limit of the test or file \
                 (`agent_timeout` is {own:?}{stretched})",
                time.as_secs_f64()
            ),
            false => write!(f, "{time:?} (`agent_timeout` is {own:?}{stretched})"),
        }
    }
}

impl Vm {
    /// Boots it; returns when the agent has answered. Dropping the future ends the machine.
    pub async fn boot(&self, options: VmOptions) -> Result<(), LabError> {
        self.boot_within(options, None).await
    }

    /// The same for a caller that has so much time left: the agent is waited for no longer, so that the
    /// error is that of the boot.
    pub async fn boot_within(
        &self,
        options: VmOptions,
        left: Option<Duration>,
    ) -> Result<(), LabError> {
        let vm = self.clone();
        let booted = self
            .0
            .apart("boot()", async move { boot(&vm, options, left).await })
            .await;
        if let Err(LabError::Boot { .. }) = &booted {
            // The error reports what is on the console, so no other error has to.
            self.console().ignore_reports();
        }
        booted
    }
}

async fn boot(vm: &Vm, options: VmOptions, left: Option<Duration>) -> Result<(), LabError> {
    let _lifecycle = vm.0.lifecycle().await;
    let stage = vm.0.stage.borrow().clone();
    if !is_bootable(stage.state()) || vm.is_closed() {
        return Err(vm
            .0
            .wrong_state("boot()", &stage, "created, shutdown or dead"));
    }
    let options = options.over(&vm.0.options);
    vm.console().begin_boot();
    let profile = &vm.0.profile;
    let need = resources_of_vm(options.memory(profile), options.cpus(profile));
    check(vm, &options)?;
    let started = Instant::now();
    let image = vm.0.environment().image(&profile.name).await;
    let image = image.map_err(|error| vm.0.host_error(error))?;
    let disks = disks_for_boot(&vm.0, &options, &image).await?;
    let requested = Instant::now();
    let grant = vm.0.grant("boot()", need).await?;
    // A wait for the pool is not part of the boot, and does not use the time of the test. Nor does what is made only
    // once, such as the image of a disk.
    let started = started + requested.elapsed();
    let until = left.map(|left| Instant::now() + left);
    let boot = Boot {
        vm,
        options,
        image,
        nics: boot_nics(vm),
        disks: Arc::new(MachineDisks::new(disks)),
        until,
        is_of_template: false,
    };
    let machine = boot.run().await?;
    vm.0.begin_guest(GuestChange::Boot);
    *lock(&vm.0.booted_with) = boot.options;
    install(vm, machine, grant, started.elapsed());
    Ok(())
}

fn check(vm: &Vm, options: &VmOptions) -> Result<(), LabError> {
    let profile = &vm.0.profile;
    let invalid = |why: String| Err(LabError::invalid(vm.subject(), "boot()", why));
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
    if let Some(word) = profile.conflict_in(&options.cmdline(profile)) {
        return invalid(format!(
            "`{word}` on the kernel command line conflicts with the injected agent, which has to be \
             the first program to start; leave it out (the agent starts the image's own /init), or use \
             a profile with `inject_agent = false`"
        ));
    }
    for file in options.files.iter().flatten() {
        if !file.path.starts_with('/') || file.path.contains('\0') {
            return invalid(format!("files: `{}` is not an absolute path", file.path));
        }
    }
    Ok(())
}

fn is_bootable(state: VmState) -> bool {
    matches!(state, VmState::Created | VmState::Shutdown | VmState::Dead)
}

impl Boot<'_> {
    /// A running machine whose guest has its identity.
    async fn run(&self) -> Result<StartedMachine, LabError> {
        if let Some(started) = self.try_template().await? {
            return Ok(started);
        }
        let (machine, channel, _) = self.cold_and_ready().await?;
        self.complete_cold(machine, channel, InsertTime::BeforeBoot)
            .await
    }

    /// The boot that a template is made of, which is the same for all VMs of its kind: without the time that
    /// the test wants, which the guest gets with its identity.
    pub(super) fn of_template(&self) -> Self {
        Self {
            vm: self.vm,
            options: VmOptions {
                initial_time_ns: None,
                ..self.options.clone()
            },
            image: Arc::clone(&self.image),
            nics: self.nics.clone(),
            disks: Arc::clone(&self.disks),
            until: self.until,
            is_of_template: true,
        }
    }

    /// Gives a guest that has booted, and of which a template was made, what makes it this VM's: its disks, its
    /// identity, its network.
    pub(super) async fn finish_cold(
        &self,
        machine: Machine,
        channel: Channel,
    ) -> Result<StartedMachine, LabError> {
        self.insert_disks(&machine).await?;
        let inserted = InsertTime::AfterBoot(machine.disks());
        self.complete_cold(machine, channel, inserted).await
    }

    async fn complete_cold(
        &self,
        machine: Machine,
        channel: Channel,
        inserted: InsertTime,
    ) -> Result<StartedMachine, LabError> {
        self.set_identity(&machine, &channel).await?;
        self.set_network(&machine, &channel).await?;
        self.set_disks(&machine, &channel, inserted).await?;
        Ok(self.started_cold(machine, channel))
    }

    fn started_cold(&self, machine: Machine, channel: Channel) -> StartedMachine {
        StartedMachine {
            machine,
            channel,
            kind: BootKind::Cold,
            profile: self.vm.profile().to_owned(),
            base: None,
            nics: self.nics.clone(),
            plugged: Vec::new(),
            disks: self.disks.list(),
            served_disks: self.disks.served.clone(),
        }
    }

    pub(super) fn environment(&self) -> &Environment {
        self.vm.0.environment()
    }

    /// Sets the identity of a guest whose agent has answered.
    pub(super) async fn set_identity(
        &self,
        machine: &Machine,
        channel: &Channel,
    ) -> Result<(), LabError> {
        let limit = self.limit();
        let identity = identity(self.vm, &self.options).request();
        let set = channel.set_identity(identity);
        match GuestWait::new(machine, limit.time).reply(set).await {
            Ok(()) => Ok(()),
            Err(RequestError::NoReply(why)) => Err(self.no_reply(why, &limit)),
            Err(RequestError::Failed(error)) => Err(self.error(refusal(&self.options, &error))),
        }
    }

    /// Sets up the NICs of a guest that has its identity.
    pub(super) async fn set_network(
        &self,
        machine: &Machine,
        channel: &Channel,
    ) -> Result<(), LabError> {
        let limit = self.limit();
        let set = configure_network(machine, channel, &self.nics);
        let set = GuestWait::new(machine, limit.time).reply(set).await;
        set.map_err(|error| self.setup_error(error, &limit))
    }

    /// Inserts all disks except the root disk, which the machine has already.
    pub(super) async fn insert_disks(&self, machine: &Machine) -> Result<(), LabError> {
        let inserted = self.disks.insert(machine, |disk| !disk.is_root()).await;
        inserted.map_err(|error| LabError::host(self.vm.subject(), "boot()", error))
    }

    /// Makes a guest that runs see the disks that were put into its machine.
    pub(super) async fn set_disks(
        &self,
        machine: &Machine,
        channel: &Channel,
        inserted: InsertTime,
    ) -> Result<(), LabError> {
        let limit = self.limit();
        let set = self.disks.settle(channel, inserted);
        let set = GuestWait::new(machine, limit.time).reply(set).await;
        set.map_err(|error| self.setup_error(error, &limit))
    }

    /// The error of a boot whose guest does not have what it should have.
    fn setup_error(
        &self,
        error: RequestError<impl Error + Send + Sync + 'static>,
        limit: &Limit,
    ) -> LabError {
        match error {
            RequestError::NoReply(why) => self.no_reply(why, limit),
            RequestError::Failed(error) => self.error(chain(&error)),
        }
    }

    /// The error of a boot whose agent did not answer.
    pub(super) fn no_reply(&self, why: WaitError, limit: &Limit) -> LabError {
        let how = match why {
            WaitError::Ended(how) => with_reason(self.vm, how),
            WaitError::Reset => with_reason(self.vm, format!("{why}{}", self.silent_console())),
            WaitError::TimedOut(processors) => {
                let silent = self.silent_console();
                let advice = if limit.is_cut || !silent.is_empty() {
                    ""
                } else {
                    "; if the guest needs longer, raise `agent_timeout` or the profile's \
                     `agent_boot_timeout`"
                };
                format!("the agent did not answer within {limit}; {processors}{silent}{advice}")
            }
        };
        self.error(how)
    }

    /// A note for a guest that has not printed one byte.
    fn silent_console(&self) -> &'static str {
        self.vm.console().settle();
        match self.vm.console().mark() {
            0 => {
                "; its console is empty: the kernel faulted before its first line (too little `memory`, the \
                 wrong kernel), or is kept silent (`quiet`, another `console=`)"
            }
            _ => "",
        }
    }

    /// How long its agent may take to answer from now on.
    pub(super) fn limit(&self) -> Limit {
        let own = self.vm.0.agent_limit(&self.options);
        let now = Instant::now();
        let left = self.until.map(|until| until.duration_since(now));
        let left = left.map(|left| left.saturating_sub(ERROR_GRACE).max(left / 2));
        Limit {
            time: left.map_or(own, |left| left.min(own)),
            own: self.vm.0.agent_timeout(&self.options),
            stretched: self.environment().timeout_note(),
            is_cut: left.is_some_and(|left| left < own),
        }
    }

    /// The error of a boot that failed in this way, with the end of the console.
    pub(super) fn error(&self, how: String) -> LabError {
        LabError::Boot {
            subject: self.vm.subject(),
            how,
            console: boot_console_tail(self.vm),
        }
    }

    /// The error of a boot whose guest has ended in this way.
    pub(super) fn ended(&self, how: String) -> LabError {
        self.error(with_reason(self.vm, how))
    }

    pub(super) fn host_error(&self, error: EnvironmentError) -> LabError {
        self.vm.0.host_error(error)
    }
}
