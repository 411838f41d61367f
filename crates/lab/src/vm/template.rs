//! Boots from templates.
//!
//! The first boot of a kind is cold; once its agent answers and the guest is ready, and before the guest gets its
//! identity, the machine is saved as a template. It then continues as the VM that it was booted for, while the
//! template is installed in the cache. Every later boot of that kind maps the template's RAM copy-on-write and
//! loads the devices' state.
//!
//! A kind is everything that the state depends on: the image, the agent, modules and files that are
//! added, the kernel's arguments, memory, vCPUs, accelerator, QEMU, and the frequency of the processor's counter (with
//! KVM, the processor). If several boots of a new kind overlap, in any number of processes, one makes the template and
//! the others wait for it, since parallel cold boots would take longer. A damaged template is reported, removed and
//! rebuilt: a test notices nothing but the time. A fault of the host, or a guest that refuses what the test wants,
//! is not damage.

use crate::disk::VmDisk;
use crate::error::{LabError, chain};
use crate::guest::wait::{GuestWait, WaitError};
use crate::save::{
    Base, FrozenVm, QUIESCE_LIMIT, RestoreError, RestoredVm, Reuse, SAVED_VM_VERSION, SavedGuest,
    SavedVm, VmManifest, is_damage, warm_up, warm_up_network, warm_up_placeholders,
};
use crate::vm::boot::Boot;
use crate::vm::disk::{DiskSetupError, InsertTime, save_disks};
use crate::vm::handle::Vm;
use crate::vm::identity::{identity, refusal};
use crate::vm::load::{load, restore_request};
use crate::vm::nic::NetworkError;
use crate::vm::rate::GuestClock;
use crate::vm::running::StartedMachine;
use futures_util::future::try_join;
use provium_events::{BootKind, NoticeSubject};
use provium_guest::Channel;
use provium_image::AGENT_BUILD;
use provium_store::{Bucket, BuildClaim, BuildPermit, CacheEntry, Key, KeyBuilder, Notice};
use provium_vmm::{Machine, SaveForm};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// A damaged template is rebuilt once; if that does not help, the boot is cold.
const ATTEMPTS: usize = 2;

/// How long a boot waits for a template that a stopped or unknown process builds, before the timeout
/// multiplier. Then it boots cold: a stopped run must not keep others from booting. A process that runs is
/// waited for as long as its build takes.
const STALLED_BUILD_LIMIT: Duration = Duration::from_secs(5);

/// Why a template could not be used.
enum TemplateFailure {
    /// It is damaged.
    Damaged(String),
    /// The host could not start it.
    Host(String),
    /// The guest ended, or refused what the test wants, as it would have after any boot.
    Refused(LabError),
}

impl Boot<'_> {
    /// Boots from the template of its kind, which is made if there is none; `None` if templates are not to be
    /// used, or cannot be.
    pub(super) async fn try_template(&self) -> Result<Option<StartedMachine>, LabError> {
        let wanted = self.vm.0.profile.warm_boot && self.options.cold != Some(true);
        let bucket = self
            .environment()
            .host()
            .and_then(|host| host.templates.as_ref());
        let Some(bucket) = bucket.filter(|_| wanted) else {
            return Ok(None);
        };
        let key = self.template_key()?;
        let notify = |notice: Notice<'_>| self.notify_of_template(notice);
        let limit = self.environment().scale_timeout(STALLED_BUILD_LIMIT);
        for _ in 0..ATTEMPTS {
            match bucket.claim_within(&key, limit, &notify).await {
                Ok(BuildClaim::Found(entry)) => {
                    let path = bucket.path().join(key.as_str());
                    match self.start_template(entry).await {
                        Ok(started) => return Ok(Some(started)),
                        Err(TemplateFailure::Refused(error)) => return Err(error),
                        Err(TemplateFailure::Host(why)) => {
                            let why = on_one_line(&why);
                            let text = format!(
                                "the boot template in `{path}` could not be started ({why}): it is kept, and \
                                 this boot is cold"
                            );
                            self.vm.0.file.warn(NoticeSubject::Template, text);
                            break;
                        }
                        Err(TemplateFailure::Damaged(why)) => {
                            let gone = match bucket.remove_unused(&key) {
                                Ok(true) => "it is removed and rebuilt".to_owned(),
                                Ok(false) => "it is in use, and stays".to_owned(),
                                Err(error) => format!("it cannot be removed: {error}"),
                            };
                            let why = on_one_line(&why);
                            let text = format!(
                                "the boot template in `{path}` cannot be used ({why}): {gone}"
                            );
                            self.vm.0.file.warn(NoticeSubject::Template, text);
                        }
                    }
                }
                Ok(BuildClaim::Build(making)) => {
                    let (machine, channel, clock) = self.of_template().cold_and_ready().await?;
                    if clock == GuestClock::Right {
                        self.use_devices(&machine, &channel).await?;
                        self.save_template(bucket, making, &machine, &channel)
                            .await?;
                    }
                    return self.finish_cold(machine, channel).await.map(Some);
                }
                Err(error) => {
                    let text = format!(
                        "no boot template can be used ({}): the boot is cold",
                        chain(&error)
                    );
                    self.vm.0.file.warn(NoticeSubject::Template, text);
                    break;
                }
            }
        }
        Ok(None)
    }

    /// Reports damage and waits for other runs. A wait for another file of this run is not reported: the
    /// boot would take as long without a template.
    fn notify_of_template(&self, notice: Notice<'_>) {
        match notice {
            Notice::Waiting {
                holder: Some(holder),
            } if holder.pid == std::process::id() => (),
            notice => {
                let what = "a boot template";
                self.vm
                    .0
                    .file
                    .notify_of_cache(NoticeSubject::Template, what, notice);
            }
        }
    }

    /// The key of its kind.
    fn template_key(&self) -> Result<Key, LabError> {
        let host = self.host()?;
        let spec = self.spec()?;
        let profile = &self.vm.0.profile;
        let mut key = KeyBuilder::new("template")
            .with("image", &self.image.id)
            .with("agent", AGENT_BUILD)
            .with("shape", spec.shape(&host.qemu))
            .with("processor", host.processor.identity(spec.accel))
            // Else two builds of the harness that share a cache would remove each other's.
            .with_number("layout", u64::from(SAVED_VM_VERSION))
            .with_number("injected", u64::from(profile.inject_agent));
        if let Some(command) = &profile.ready {
            key = key.with("ready", command);
        }
        for module in &profile.modules {
            key = key.with("module", module);
        }
        for file in self.options.files.iter().flatten() {
            key = key
                .with("file", &file.path)
                .with_number("perm", u64::from(file.perm))
                .with("content", &file.content);
        }
        Ok(key.finish())
    }

    /// Starts the VM from the template.
    async fn start_template(&self, entry: CacheEntry) -> Result<StartedMachine, TemplateFailure> {
        let saved = SavedVm::whole(Base::entry(entry)).map_err(unused)?;
        let request = restore_request(&saved, &self.image, &self.disks.list());
        self.disks
            .restore_root(&self.vm.0, &saved)
            .map_err(unused)?;
        let restored = load(self.vm, &request).await.map_err(unused)?;
        let (machine, channel) = (&restored.machine, &restored.channel);
        // The guest uses its root from its first instruction on. It has not used the other disks, so these are
        // inserted while the agent sets the identity; the agent looks at them after that.
        let inserted = self.disks.insert(machine, VmDisk::is_root).await;
        inserted.map_err(unused)?;
        let limit = self.limit();
        let resume = async {
            let resumed = restored.resume(identity(self.vm, &self.options), limit.time);
            resumed.await.map_err(|error| match error {
                RestoreError::Refused(error) => {
                    TemplateFailure::Refused(self.error(refusal(&self.options, &error)))
                }
                RestoreError::GuestEnded(how) => TemplateFailure::Refused(self.ended(how)),
                // A cold boot would take longer than its caller has.
                RestoreError::TimedOut { processors, .. } if limit.is_cut => {
                    let why = WaitError::TimedOut(processors);
                    TemplateFailure::Refused(self.no_reply(why, &limit))
                }
                error => unused(error),
            })
        };
        let give_disks = async {
            if let Err(error) = self.disks.insert(machine, |disk| !disk.is_root()).await {
                // The guest runs already, and may have ended its machine.
                return Err(match restored.guest_end().await {
                    Some(how) => TemplateFailure::Refused(self.ended(how)),
                    None => unused(error),
                });
            }
            let empty = InsertTime::AfterBoot(restored.empty_disks.clone());
            let set = self.set_disks(machine, channel, empty).await;
            set.map_err(TemplateFailure::Refused)
        };
        try_join(resume, give_disks).await?;
        let set = self.set_network(machine, channel).await;
        set.map_err(TemplateFailure::Refused)?;
        self.vm.0.file.environment.prewarm(request, Reuse::Possible);
        let RestoredVm {
            machine,
            channel,
            base,
            ..
        } = restored;
        Ok(StartedMachine {
            machine,
            channel,
            kind: BootKind::Template,
            profile: self.vm.profile().to_owned(),
            base: Some(base),
            nics: self.nics.clone(),
            plugged: Vec::new(),
            disks: self.disks.list(),
            served_disks: self.disks.served.clone(),
        })
    }

    /// Has the guest use its NICs and disks once, which have no links and no content yet, as each boot from the
    /// template does. A guest whose root is on a disk has services of its own that could respond.
    ///
    /// # Errors
    /// As a boot that sets them up.
    async fn use_devices(&self, machine: &Machine, channel: &Channel) -> Result<(), LabError> {
        let disks = machine.disks();
        if self.disks.list().iter().any(VmDisk::is_root) {
            return Ok(());
        }
        let limit = self.limit();
        let used = async {
            let network = warm_up_network(channel, &machine.nics()).await;
            network.map_err(|error| chain(&NetworkError::Agent(error)))?;
            let disks = warm_up_placeholders(channel, &disks).await;
            disks.map_err(|error| chain(&DiskSetupError::Agent(error)))
        };
        match GuestWait::new(machine, limit.time).until(used).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(how)) => Err(self.error(how)),
            Err(why) => Err(self.no_reply(why, &limit)),
        }
    }

    /// Saves a machine that has just booted as the template of its kind. The boot does not fail if that fails.
    ///
    /// # Errors
    /// When the guest has ended meanwhile.
    async fn save_template(
        &self,
        bucket: &Bucket,
        making: BuildPermit,
        machine: &Machine,
        channel: &Channel,
    ) -> Result<(), LabError> {
        let file = Arc::clone(&self.vm.0.file);
        let failed = move |why: String| {
            let text = format!(
                "no boot template could be kept ({why}): the next boot of its kind is cold, too"
            );
            file.warn(NoticeSubject::Template, text);
        };
        let draft = match bucket.staging_folder() {
            Ok(draft) => draft,
            Err(error) => {
                failed(error.to_string());
                return Ok(());
            }
        };
        let limit = self.environment().scale_timeout(QUIESCE_LIMIT);
        let frozen = async {
            // If it fails, so does what follows.
            let _ = warm_up(channel).await;
            FrozenVm::freeze(machine, channel, &self.disks.served).await
        };
        let frozen = match GuestWait::new(machine, limit).until(frozen).await {
            Ok(frozen) => frozen.map_err(|error| chain(&error)),
            Err(WaitError::Ended(how)) => return Err(self.ended(how)),
            Err(WaitError::Reset) => {
                return Err(self.ended(WaitError::Reset.to_string()));
            }
            Err(late) => Err(late.to_string()),
        };
        let processor = self.host().map(|host| host.processor.clone());
        let written = async {
            let frozen = frozen?;
            let processor = processor.map_err(|error| error.to_string())?;
            let root = self.disks.list().into_iter().filter(VmDisk::is_root);
            let root = save_disks(self.vm, "boot()", root.collect(), draft.path()).await;
            let disks = root.map_err(|error| error.to_string())?;
            let manifest = |cut| {
                let guest = SavedGuest {
                    name: self.vm.name(),
                    profile: self.vm.profile(),
                    image: &self.image.id,
                    processor: &processor,
                };
                VmManifest::new(&guest, None, Vec::new(), disks, cut)
            };
            let saved = frozen
                .save(draft.path(), SaveForm::Template, manifest)
                .await;
            let thawed = frozen.thaw().await;
            saved.map_err(|error| chain(&error))?;
            thawed.map_err(|error| chain(&error))?;
            let about = about(self.vm, machine);
            fs_err::write(draft.path().join("about.json"), about.to_string())
                .map_err(|error| error.to_string())
        };
        if let Err(why) = written.await {
            failed(why);
            return Ok(());
        }
        self.environment().spawn_background(async move {
            if let Err(error) = making.install(draft).await {
                failed(chain(&error));
            }
        });
        Ok(())
    }
}

/// What `provium template list` shows of a saved machine.
fn about(vm: &Vm, machine: &Machine) -> serde_json::Value {
    json!({
        "kind": "template",
        "profile": vm.profile(),
        "memory_bytes": machine.memory(),
        "cpus": machine.cpus(),
        "made_by_version": env!("CARGO_PKG_VERSION"),
    })
}

/// Classifies an error of a start from a template.
fn unused(error: impl std::error::Error + Send + Sync + 'static) -> TemplateFailure {
    let why = chain(&error);
    if is_damage(&error) {
        TemplateFailure::Damaged(why)
    } else {
        TemplateFailure::Host(why)
    }
}

fn on_one_line(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join("; ")
}
