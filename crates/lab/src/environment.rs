//! What all files of a run share: profiles, images, QEMU, the pool, the seed, the event sink.

use crate::inputs::FailedBuilds;
use crate::kept::catalogue::KeptFailures;
use crate::kept::keeper::{FailureKeeper, KeptFailureSummary};
use crate::kept::output::KeptOutput;
use crate::lock::lock;
use crate::profile::Profile;
use crate::save::{RestoreRequest, Reuse, WarmPool};
use camino::{Utf8Path, Utf8PathBuf};
use futures_util::future::BoxFuture;
use indexmap::IndexMap;
use provium_events::{Resources, Sink};
use provium_image::{GuestImage, ImageError, Images};
use provium_pool::{Pool, uncounted};
use provium_store::Bucket;
use provium_vmm::{Accel, AccelChoice, Processor, Qemu, VmmError};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::task::JoinSet;

/// Context ids below this one mean something else to a vsock; see `vsock(7)`.
const FIRST_CID: u32 = 3;

/// How long the guest of a warm VM may take for its command, before the timeout multiplier.
const WARM_UP_LIMIT: Duration = Duration::from_secs(10);

/// What all files of a run share.
pub struct Environment {
    profiles: IndexMap<String, Arc<PreparedProfile>>,
    host: Option<Host>,
    pool: Pool,
    sink: Sink,
    seed: AtomicU64,
    next_cid: AtomicU32,
    /// Machines that are restored and paused, for later boots and restores.
    pub(crate) warm_pool: WarmPool,
    /// Fixtures whose builds have failed.
    pub(crate) failed_builds: FailedBuilds,
    /// The machines of each file that runs.
    machines: Mutex<BTreeMap<String, Vec<Weak<dyn EndMachine>>>>,
    /// Files that were given up.
    abandoned: Mutex<BTreeSet<String>>,
    /// Work in the background.
    chores: Mutex<JoinSet<()>>,
    runtime: tokio::runtime::Handle,
    /// Saves the VMs of the first failed test; `None`: they end with it.
    failure_keeper: Option<FailureKeeper>,
    /// The folder that paths in messages are relative to; empty: they are absolute.
    shown_from: Utf8PathBuf,
    /// Keeps what reports cut; `None`: it is lost.
    kept_output: Option<KeptOutput>,
}

/// A machine that can be ended without its VM.
pub(crate) trait EndMachine: Send + Sync {
    /// Ends it.
    fn end(&self) -> BoxFuture<'_, ()>;
}

/// The host's means to boot machines.
pub struct Host {
    /// Guests to boot from.
    pub images: Images,
    /// The QEMU to boot them with.
    pub qemu: Qemu,
    /// The accelerator of the run.
    pub accel: Accel,
    /// The host's processor.
    pub processor: Processor,
    /// Where boot templates are kept; `None`: every boot is cold.
    pub templates: Option<Bucket>,
    /// Where snapshots are kept that have no folder of their own.
    pub snapshots: Bucket,
    /// Where fixtures are kept.
    pub fixtures: Bucket,
    /// Time-outs that wait for the guest are multiplied by this: how many times slower than on hardware
    /// it runs.
    pub timeout_multiplier: f64,
}

/// A profile, and its image once it has been needed.
struct PreparedProfile {
    profile: Arc<Profile>,
    image: OnceCell<Arc<GuestImage>>,
}

/// No profile of that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no profile `{name}`{}", hint(.known, .nearest.as_deref()))]
pub struct UnknownProfile {
    /// What was asked for.
    pub name: String,
    /// All there are.
    pub known: Vec<String>,
    /// The one that is probably meant.
    pub nearest: Option<String>,
}

impl Environment {
    /// The environment of a run. I/O tasks run on `runtime`.
    pub fn new(
        profiles: Vec<Profile>,
        host: Option<Host>,
        pool: Pool,
        sink: Sink,
        seed: u64,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        let prepared = |profile: Profile| {
            let name = profile.name.clone();
            (
                name,
                Arc::new(PreparedProfile {
                    profile: Arc::new(profile),
                    image: OnceCell::new(),
                }),
            )
        };
        Self {
            profiles: profiles.into_iter().map(prepared).collect(),
            host,
            pool,
            sink,
            seed: AtomicU64::new(seed),
            next_cid: AtomicU32::new(FIRST_CID),
            warm_pool: WarmPool::default(),
            failed_builds: FailedBuilds::default(),
            machines: Mutex::default(),
            abandoned: Mutex::default(),
            chores: Mutex::default(),
            runtime,
            failure_keeper: None,
            shown_from: Utf8PathBuf::new(),
            kept_output: None,
        }
    }

    /// The same, for a user who is in `folder`: paths in messages are relative to it, those outside of it stay
    /// absolute. `output` keeps what reports cut.
    #[must_use]
    pub fn for_user_in(self, folder: &Utf8Path, output: Option<KeptOutput>) -> Self {
        Self {
            shown_from: folder.to_owned(),
            kept_output: output,
            ..self
        }
    }

    /// What keeps what reports cut, if it is kept.
    pub fn kept_output(&self) -> Option<&KeptOutput> {
        self.kept_output.as_ref()
    }

    /// A path as messages name it.
    pub fn shown_path(&self, path: &Utf8Path) -> String {
        let is_set = !self.shown_from.as_str().is_empty();
        let relative = path.strip_prefix(&self.shown_from).ok();
        let relative = relative.filter(|_| is_set).unwrap_or(path);
        relative.to_string()
    }

    /// The same, but the VMs of the first failed test are saved to `failures`, see
    /// [`keep_failure`](crate::keep_failure). `enter` is the command that enters them, up to their key.
    #[must_use]
    pub fn keep_first_failure(self, failures: KeptFailures, enter: String) -> Self {
        Self {
            failure_keeper: Some(FailureKeeper::new(failures, enter)),
            ..self
        }
    }

    /// What was kept of a failed test.
    pub fn kept_failure(&self) -> Option<&KeptFailureSummary> {
        self.failure_keeper.as_ref()?.kept()
    }

    /// An environment in which every boot fails, for what needs no machine.
    pub fn without_machines(
        profiles: Vec<Profile>,
        sink: Sink,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        Self::new(profiles, None, Pool::unlimited(), sink, 0, runtime)
    }

    /// The profile of that name.
    pub fn profile(&self, name: &str) -> Result<Arc<Profile>, UnknownProfile> {
        self.prepared(name)
            .map(|prepared| Arc::clone(&prepared.profile))
    }

    /// The profiles' names, in the configuration's order.
    pub fn profile_names(&self) -> impl Iterator<Item = &str> {
        self.profiles.keys().map(String::as_str)
    }

    /// Where events go.
    pub fn sink(&self) -> &Sink {
        &self.sink
    }

    /// The run's seed.
    pub fn seed(&self) -> u64 {
        self.seed.load(Ordering::Relaxed)
    }

    /// Sets the seed of a further run of the same files.
    pub fn set_seed(&self, seed: u64) {
        self.seed.store(seed, Ordering::Relaxed);
    }

    /// The host's means; `None` where nothing can boot.
    pub fn host(&self) -> Option<&Host> {
        self.host.as_ref()
    }

    /// `limit` times the timeout multiplier, for guests that run slower than on hardware.
    pub fn scale_timeout(&self, limit: Duration) -> Duration {
        self.host.as_ref().map_or(limit, |host| {
            limit.mul_f64(host.timeout_multiplier.max(1.0))
        })
    }

    /// What an error adds to a limit as the user set it, where the timeout multiplier changes it.
    pub(crate) fn timeout_note(&self) -> String {
        match &self.host {
            Some(host) if host.timeout_multiplier > 1.0 => {
                format!(
                    ", times {:.1} since guests run slower here",
                    host.timeout_multiplier
                )
            }
            _ => String::new(),
        }
    }

    /// Does `work` in the background; only [`Environment::drain`] waits for it.
    pub(crate) fn spawn_background(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut chores = lock(&self.chores);
        while chores.try_join_next().is_some() {}
        chores.spawn_on(work, &self.runtime);
    }

    /// Counts a restore, and makes a warm VM for the next one in the background if that is likely.
    pub(crate) fn prewarm(self: &Arc<Self>, request: RestoreRequest, reuse: Reuse) {
        let room = self.pool().available().memory_bytes;
        if !self.warm_pool.should_prewarm(&request, reuse, room) {
            return;
        }
        let environment = Arc::clone(self);
        self.spawn_background(async move {
            // There is a host, since something was restored on it.
            if let Some(host) = environment.host() {
                let limit = environment.scale_timeout(WARM_UP_LIMIT);
                let pool = &environment.warm_pool;
                pool.prewarm(&request, &host.qemu, limit).await;
            }
        });
    }

    /// Ends all machines of a file that cannot end them itself any more, and those that it still
    /// boots.
    pub fn abandon(&self, file: &str) {
        lock(&self.abandoned).insert(file.to_owned());
        let machines = lock(&self.machines).remove(file).unwrap_or_default();
        for running in machines.iter().filter_map(Weak::upgrade) {
            self.end_machine(running);
        }
    }

    /// A machine of `file` runs.
    pub(crate) fn note_machine(&self, file: &str, running: &Arc<dyn EndMachine>) {
        {
            let mut machines = lock(&self.machines);
            let machines = machines.entry(file.to_owned()).or_default();
            machines.retain(|machine| machine.strong_count() > 0);
            machines.push(Arc::downgrade(running));
        }
        if lock(&self.abandoned).contains(file) {
            self.end_machine(Arc::clone(running));
        }
    }

    fn end_machine(&self, running: Arc<dyn EndMachine>) {
        // Nothing waits for its end: QEMU is killed where it does not quit.
        self.runtime.spawn(async move { running.end().await });
    }

    /// Waits for what is still done in the background (templates are put into the cache), and ends
    /// the warm VMs. For the end of a run.
    pub async fn drain(&self) {
        self.warm_pool.close();
        let chores = std::mem::take(&mut *lock(&self.chores));
        chores.join_all().await;
    }

    /// The vCPUs that all files share; `None` if the pool is unlimited.
    pub fn processors(&self) -> Option<u32> {
        let cpus = self.pool.total().cpus;
        (cpus != Resources::UNLIMITED.cpus).then_some(cpus)
    }

    pub(crate) fn failure_keeper(&self) -> Option<&FailureKeeper> {
        self.failure_keeper.as_ref()
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(crate) fn runtime(&self) -> &tokio::runtime::Handle {
        &self.runtime
    }

    pub(crate) fn next_cid(&self) -> u32 {
        self.next_cid.fetch_add(1, Ordering::Relaxed)
    }

    /// What the profile's guests boot from. The first call prepares it, with the images of the profile's disks; the
    /// clocks of the caller are stopped meanwhile.
    pub async fn image(&self, profile: &str) -> Result<Arc<GuestImage>, EnvironmentError> {
        let host = self.host.as_ref().ok_or(EnvironmentError::NoMachines)?;
        let prepared = self.prepared(profile)?;
        let image = uncounted(prepared.image.get_or_try_init(|| async {
            if let Some(why) = &prepared.profile.unusable {
                return Err(EnvironmentError::Unusable {
                    profile: profile.to_owned(),
                    why: why.clone(),
                });
            }
            let image = prepared.profile.image(&host.images).await?;
            if !prepared.profile.s3 {
                return Ok(Arc::new(image));
            }
            let image = image.as_given();
            match provium_vmm::supports_s3(&image.kernel) {
                true => Ok::<_, EnvironmentError>(Arc::new(image)),
                false => Err(EnvironmentError::CannotWake {
                    profile: profile.to_owned(),
                    kernel: image.kernel,
                }),
            }
        }));
        image.await.cloned()
    }

    /// The accelerator a machine of `profile` runs with.
    pub(crate) fn accel(&self, profile: &Profile) -> Result<Accel, EnvironmentError> {
        let host = self.host.as_ref().ok_or(EnvironmentError::NoMachines)?;
        Ok(match profile.accel {
            AccelChoice::Auto => host.accel,
            AccelChoice::Kvm => Accel::Kvm,
            AccelChoice::Tcg => Accel::Tcg,
        })
    }

    fn prepared(&self, name: &str) -> Result<&Arc<PreparedProfile>, UnknownProfile> {
        self.profiles.get(name).ok_or_else(|| UnknownProfile {
            name: name.to_owned(),
            known: self.profiles.keys().cloned().collect(),
            nearest: crate::nearest::nearest(name, self.profile_names()).map(str::to_owned),
        })
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("profiles", &self.profiles.keys())
            .finish_non_exhaustive()
    }
}

/// Why there is nothing to boot.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// The environment was made without a host.
    #[error("no machine can boot in this environment")]
    NoMachines,
    /// No such profile.
    #[error(transparent)]
    Profile(#[from] UnknownProfile),
    /// The guest's image could not be prepared.
    #[error("cannot prepare the guest image")]
    Image(#[from] ImageError),
    /// The configuration names files that are not there.
    #[error("profile `{profile}` cannot be booted: {why}")]
    Unusable {
        /// The profile.
        profile: String,
        /// What is missing, and the place that names it.
        why: String,
    },
    /// The profile wants guests that can be woken, of a kernel that cannot.
    #[error(
        "profile `{profile}` has `s3 = true`, but its kernel `{kernel}` is an ELF file, which QEMU writes \
         over a guest that is woken; name its bzImage instead"
    )]
    CannotWake {
        /// The profile.
        profile: String,
        /// Its kernel.
        kernel: Utf8PathBuf,
    },
    /// QEMU could not do it.
    #[error("the machine cannot be started")]
    Machine(#[from] VmmError),
}

fn hint(known: &[String], nearest: Option<&str>) -> String {
    match (nearest, known) {
        (Some(nearest), _) => format!("; did you mean `{nearest}`?"),
        (None, [only]) if only == "default" => {
            "; there is only the built-in `default`, and no provium.toml that has another"
                .to_owned()
        }
        (None, []) => "; the configuration has none".to_owned(),
        (None, known) => format!("; there are: {}", known.join(", ")),
    }
}
