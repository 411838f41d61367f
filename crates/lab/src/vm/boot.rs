//! From a VM's options to an agent that answers.
//!
//! A boot is from a template where that is allowed and one exists or can be made, and cold otherwise.
//! Either way the guest's identity (its name, the time, randomness) is set before the test sees it.

use crate::apart::apart;
use crate::environment::EnvironmentError;
use crate::error::LabError;
use crate::guest::answer::{NoAnswer, answer_of, end_of};
use crate::lock::lock;
use crate::save::{Base, Identity, host_name};
use crate::vm::handle::{Stage, Vm, VmState};
use crate::vm::options::VmOptions;
use crate::vm::running::{MachineNumber, Running};
use provium_events::{BootKind, Event};
use provium_guest::Channel;
use provium_image::GuestImage;
use provium_pool::{Grant, Resources, resources_of_vm};
use provium_vmm::Machine;
use std::fmt;
use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Smallest guest memory that a Linux kernel comes up in, bytes.
const LEAST_MEMORY: u64 = 32 * 1024 * 1024;

/// So much of its caller's time is left for the error of a boot that did not come about.
const LAST_MOMENT: Duration = Duration::from_secs(1);

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

/// What a boot is to be.
pub(crate) struct Terms {
    pub(crate) options: VmOptions,
    /// When its caller's time is up.
    until: Option<Instant>,
}

impl Terms {
    /// For the boot that a template is made of, which is the same for all VMs of its kind: without the
    /// time that the test wants, which the guest gets with its identity.
    pub(crate) fn of_template(&self) -> Self {
        Self {
            options: VmOptions {
                initial_time_ns: None,
                ..self.options.clone()
            },
            until: self.until,
        }
    }
}

/// How long an agent may take to answer; as text, with what that is made of.
pub(crate) struct Limit {
    pub(crate) time: Duration,
    /// As the author or the profile set it.
    own: Duration,
    stretched: String,
    /// It is less than that: the caller's time is up then.
    is_cut: bool,
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
            .apart("boot()", async move { vm.boot_here(options, left).await })
            .await;
        if let Err(LabError::Boot { .. }) = &booted {
            // The error has told what the console says: it is no news for anybody else.
            self.console().settle();
            self.0
                .reported
                .store(self.console().mark(), Ordering::Release);
        }
        booted
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

    async fn boot_here(&self, options: VmOptions, left: Option<Duration>) -> Result<(), LabError> {
        let _lifecycle = self.lifecycle().await;
        let stage = self.0.stage.borrow().clone();
        if !is_bootable(stage.state()) || self.is_closed() {
            return Err(self.wrong_state("boot()", &stage, "created, shutdown or dead"));
        }
        let options = options.over(&self.0.options);
        self.console().begin_boot();
        let profile = &self.0.profile;
        let need = resources_of_vm(options.memory(profile), options.cpus(profile));
        self.check(&options)?;
        let started = Instant::now();
        let image = self.environment().image(&profile.name).await;
        let image = image.map_err(|error| self.host_error(error))?;
        let asked = Instant::now();
        let grant = self.grant("boot()", need).await?;
        // A wait for the pool is no part of the boot, and no time of the test.
        let started = started + asked.elapsed();
        let until = left.map(|left| started + left);
        let terms = Terms { options, until };
        let machine = self.start(&terms, &image).await?;
        lock(&self.0.timeline).boot();
        *lock(&self.0.booted_with) = terms.options;
        self.goes_on(machine, grant, started.elapsed());
        Ok(())
    }

    /// A running machine whose guest has its identity.
    async fn start(&self, terms: &Terms, image: &GuestImage) -> Result<Started, LabError> {
        if let Some(started) = self.boot_from_template(terms, image).await? {
            return Ok(started);
        }
        let (machine, channel, _) = self.boot_cold_on_time(terms, image).await?;
        self.set_identity(&machine, &channel, terms).await?;
        Ok(Started {
            machine,
            channel,
            kind: BootKind::Cold,
            profile: self.profile().to_owned(),
            base: None,
        })
    }

    /// Gives a guest that has just come up its name, the time and randomness.
    pub(crate) async fn set_identity(
        &self,
        machine: &Machine,
        channel: &Channel,
        terms: &Terms,
    ) -> Result<(), LabError> {
        let limit = self.limit_of(terms);
        let identity = self.identity(&terms.options).request();
        let no_answer = match answer_of(machine, limit.time, channel.set_identity(identity)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) if error.channel().is_some() => match end_of(machine).await {
                Some(end) => NoAnswer::Ended(end),
                None => return Err(self.boot_error(format!("the agent says: {error}"))),
            },
            Ok(Err(error)) => return Err(self.boot_error(format!("the agent says: {error}"))),
            Err(no_answer) => no_answer,
        };
        Err(self.unanswered(no_answer, &limit))
    }

    /// The error of a boot whose agent did not answer.
    pub(crate) fn unanswered(&self, why: NoAnswer, limit: &Limit) -> LabError {
        let how = match why {
            NoAnswer::Ended(how) => self.with_reason(how),
            NoAnswer::Reset => self.with_reason(format!("{why}{}", self.silent_console())),
            NoAnswer::Late => {
                let silent = self.silent_console();
                let advice = if limit.is_cut || !silent.is_empty() {
                    ""
                } else {
                    "; if the guest needs longer, raise `agent_timeout` or the profile's \
                     `agent_boot_timeout`"
                };
                format!("the agent did not answer within {limit}{silent}{advice}")
            }
        };
        self.boot_error(how)
    }

    /// What is told of a guest that has not printed one byte.
    fn silent_console(&self) -> &'static str {
        self.console().settle();
        match self.console().mark() {
            0 => {
                "; its console is empty: the kernel faulted before its first line (too little `memory`, the \
                 wrong kernel), or is kept silent (`quiet`, another `console=`)"
            }
            _ => "",
        }
    }

    /// The guest's identity after a boot.
    pub(crate) fn identity(&self, options: &VmOptions) -> Identity {
        Identity {
            realtime_ns: Some(options.initial_time_ns.unwrap_or_else(now_ns)),
            hostname: Some(host_name(self.name())),
            is_seeded: options.rng_seed.is_some(),
        }
    }

    /// How long its agent may take to answer.
    pub(crate) fn agent_limit(&self, options: &VmOptions) -> Duration {
        self.environment()
            .scale_timeout(self.agent_timeout(options))
    }

    fn agent_timeout(&self, options: &VmOptions) -> Duration {
        let profile = &self.0.profile;
        options.agent_timeout.unwrap_or(profile.agent_boot_timeout)
    }

    /// The same for a boot, whose caller may have less time than that.
    pub(crate) fn limit_of(&self, terms: &Terms) -> Limit {
        let own = self.agent_limit(&terms.options);
        let now = Instant::now();
        let left = terms.until.map(|until| until.duration_since(now));
        let left = left.map(|left| left.saturating_sub(LAST_MOMENT).max(left / 2));
        Limit {
            time: left.map_or(own, |left| left.min(own)),
            own: self.agent_timeout(&terms.options),
            stretched: self.environment().timeout_note(),
            is_cut: left.is_some_and(|left| left < own),
        }
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
            pressed: Mutex::new(None),
        });
        running.machine.mark_agent_up();
        self.0
            .stage
            .send_replace(Stage::Booted(Arc::clone(&running)));
        self.environment().note_machine(&self.0.file.path, &running);
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
    pub(crate) async fn grant(&self, call: &str, need: Resources) -> Result<Grant, LabError> {
        let environment = self.environment();
        environment
            .warm_pool
            .make_room(environment.pool().available().memory_bytes);
        let grant = self.0.file.budget.acquire(need).await;
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

    pub(crate) fn boot_error(&self, how: String) -> LabError {
        LabError::Boot {
            subject: self.subject(),
            how,
            console: self.boot_console_tail(),
        }
    }

    pub(crate) fn host_error(&self, error: EnvironmentError) -> LabError {
        LabError::host(self.subject(), "boot()", error)
    }
}

fn is_bootable(state: VmState) -> bool {
    matches!(state, VmState::Created | VmState::Shutdown | VmState::Dead)
}

/// The host's time, nanoseconds since 1970.
pub(crate) fn now_ns() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}
