//! Restores a saved VM: the one way for template boots, snapshots, resets and fixtures.
//!
//! ```text
//! RestoreRequest ── load ──▶ StandbyVm ── assign ──▶ RestoredVm ── resume ──▶ the guest runs, with an
//!                              │  ▲                                           identity of its own
//!                              └──┘ warm_up
//! ```

use crate::guest::wait::{GuestWait, RequestError, WaitError, machine_end};
use crate::lock::lock;
use crate::save::manifest::{Base, SavedVm};
use crate::save::warm_up::{BLANK_DISK, warm_up, warm_up_disks, warm_up_network};
use camino::Utf8PathBuf;
use futures_util::future::join;
use provium_guest::{CallError, Channel, ModuleProvider, QuiescedChannel};
use provium_image::AGENT_BUILD;
use provium_protocol::op::SetIdentity;
use provium_vmm::{ConsoleLog, DeathKind, DiskDevice, Machine, NicSlot, Qemu, Standby, VmmError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Number of random bytes that a guest gets.
const ENTROPY_BYTES: usize = 32;

/// What the agent sets when its guest runs again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Identity {
    /// CLOCK_REALTIME, nanoseconds since 1970; `None`: unchanged.
    pub(crate) realtime_ns: Option<i64>,
    /// `None`: unchanged.
    pub(crate) hostname: Option<String>,
    /// A seed fixes the stream of its hardware random number generator.
    pub(crate) is_seeded: bool,
}

impl Identity {
    /// The request that sets it, with randomness that no other guest has.
    pub(crate) fn request(self) -> SetIdentity {
        SetIdentity {
            realtime_ns: self.realtime_ns,
            hostname: self.hostname,
            entropy: entropy(),
            fresh_hwrng: !self.is_seeded,
        }
    }
}

/// A saved VM, and what it takes to restore it.
#[derive(Clone)]
pub(crate) struct RestoreRequest {
    pub(crate) saved: SavedVm,
    /// The kernel that the VM was booted from.
    pub(crate) kernel: Utf8PathBuf,
    /// Provides the kernel modules that its guest requests.
    pub(crate) modules: Arc<dyn ModuleProvider>,
    /// The disks of its machine, which have serials of their own.
    pub(crate) disks: Vec<DiskDevice>,
}

/// A paused machine that has loaded the saved state, and the channel to the agent in it. It is not assigned
/// to a VM yet.
pub(crate) struct StandbyVm {
    standby: Standby,
    channel: Channel,
    /// `None`: as the state was saved.
    quiesced: Option<QuiescedChannel>,
    base: Arc<Base>,
    /// The NICs that the machine had when it was saved.
    nics: Vec<NicSlot>,
    /// The disks that the host set last in its guest, which have no content.
    empty_disks: Vec<DiskDevice>,
}

/// A paused machine with the name and the console of its VM, and a quiesced agent.
pub(crate) struct RestoredVm {
    pub(crate) machine: Machine,
    pub(crate) channel: Channel,
    quiesced: Mutex<Option<QuiescedChannel>>,
    pub(crate) base: Arc<Base>,
    /// The disks that the host set last in the guest of a template, which had no content.
    pub(crate) empty_disks: Vec<DiskDevice>,
}

/// Why a saved VM could not be restored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    #[error("no machine can boot in this environment")]
    NoMachines,
    #[error("cannot start the machine")]
    Machine(#[from] VmmError),
    #[error("its agent does not answer")]
    Agent(#[source] CallError),
    /// The agent works, but cannot do what is asked of it, such as setting that clock.
    #[error("its agent refuses")]
    Refused(#[source] CallError),
    #[error("its machine ended: {0}")]
    Ended(String),
    /// The guest ended by itself, as it would have without having been saved.
    #[error("its guest ended: {0}")]
    GuestEnded(String),
    #[error("its agent did not answer within {limit:?}; {processors}")]
    TimedOut {
        limit: Duration,
        /// What its vCPUs did then.
        processors: String,
    },
}

impl RestoreError {
    /// Whether it is about the saved VM, as in [`is_damage`](crate::save::is_damage).
    pub(crate) fn is_of_saved_state(&self) -> bool {
        match self {
            Self::Machine(error) => error.is_of_saved_state(),
            _ => false,
        }
    }
}

impl RestoreRequest {
    /// Whether a command may run in the guest before it is assigned. A snapshot is restored exactly as it was
    /// taken, a seeded random stream must not depend on whether the VM was warm, and a guest whose root is on a disk
    /// gets that with its VM.
    pub(crate) fn can_warm_up(&self) -> bool {
        let manifest = &self.saved.machine.manifest;
        self.saved.is_template()
            && manifest.rng_seed.is_none()
            && self.saved.manifest.disks.is_empty()
    }

    /// Starts QEMU, which lists of processes show as `name`, and loads the saved state.
    pub(crate) async fn load(&self, name: &str, qemu: &Qemu) -> Result<StandbyVm, RestoreError> {
        let (machine, kernel) = (self.saved.machine.clone(), self.kernel.clone());
        let disks = self.disks.clone();
        let mut standby = Standby::restore(machine, name.to_owned(), kernel, disks, qemu).await?;
        let cut = &self.saved.manifest.cut;
        // A new standby has its streams.
        let streams = standby
            .take_agent_streams()
            .ok_or(RestoreError::NoMachines)?;
        let stream = match cut.transport() {
            0 => streams.virtio,
            _ => streams.uart,
        };
        let channel = Channel::resume(stream, cut, AGENT_BUILD, Arc::clone(&self.modules));
        Ok(StandbyVm {
            standby,
            channel,
            quiesced: None,
            base: Arc::clone(&self.saved.base),
            nics: self.saved.machine.manifest.nics.clone(),
            empty_disks: self.saved.machine.manifest.disks.clone(),
        })
    }
}

impl StandbyVm {
    /// Runs a command in the guest, sets up its NICs and disks, and pauses it again, so that the first command of its
    /// VM, its network and its disks do not have to wait until QEMU has loaded the guest's pages and translated the
    /// code that they need.
    ///
    /// The guest gets randomness of its own; its name and clock are set when the VM resumes. No deadline is
    /// set; the caller sets one. After an error the machine cannot be used.
    pub(crate) async fn warm_up(&mut self) -> Result<(), RestoreError> {
        self.standby.insert_blank_disks(BLANK_DISK).await?;
        let set = self.channel.set_identity(Identity::default().request());
        let (set, resumed) = join(set, self.standby.resume()).await;
        resumed?;
        set.map_err(RestoreError::Agent)?;
        let warmed = async {
            warm_up(&self.channel).await?;
            warm_up_network(&self.channel, &self.nics).await?;
            warm_up_disks(&self.channel, self.standby.disks(), &self.empty_disks).await
        };
        warmed.await.map_err(RestoreError::Agent)?;
        self.empty_disks = self.standby.disks().to_vec();
        let quiesced = self.channel.quiesce().await;
        self.quiesced = Some(quiesced.map_err(RestoreError::Agent)?);
        self.standby.pause().await?;
        Ok(())
    }

    /// Whether its QEMU still runs.
    pub(crate) fn is_alive(&self) -> bool {
        self.standby.is_alive()
    }

    /// Makes it the machine of the VM `name`.
    pub(crate) async fn assign(
        self,
        name: &str,
        console: ConsoleLog,
    ) -> Result<RestoredVm, RestoreError> {
        Ok(RestoredVm {
            machine: self.standby.assign(name.to_owned(), console).await?,
            channel: self.channel,
            quiesced: Mutex::new(self.quiesced),
            base: self.base,
            empty_disks: self.empty_disks,
        })
    }
}

impl RestoredVm {
    /// Resumes the guest as `identity`; its agent may take `limit` to answer.
    pub(crate) async fn resume(
        &self,
        identity: Identity,
        limit: Duration,
    ) -> Result<(), RestoreError> {
        drop(lock(&self.quiesced).take());
        // The request waits in the guest's port before its first vCPU runs: until it has been carried out,
        // what its processes draw is not random.
        let set = self.channel.set_identity(identity.request());
        let wait = GuestWait::new(&self.machine, limit);
        let (set, resumed) = join(wait.reply(set), self.machine.resume()).await;
        resumed?;
        let no_reply = match set {
            Ok(()) => {
                self.machine.mark_agent_up();
                return Ok(());
            }
            Err(RequestError::Failed(error)) if error.channel().is_none() => {
                return Err(RestoreError::Refused(error));
            }
            Err(RequestError::Failed(error)) => return Err(RestoreError::Agent(error)),
            Err(RequestError::NoReply(no_reply)) => no_reply,
        };
        Err(match no_reply {
            WaitError::Ended(how) => self.ended(how),
            WaitError::Reset => RestoreError::GuestEnded(no_reply.to_string()),
            WaitError::TimedOut(processors) => RestoreError::TimedOut { limit, processors },
        })
    }

    /// How its guest has ended by itself, if it has or does so soon.
    pub(crate) async fn guest_end(&self) -> Option<String> {
        let how = machine_end(&self.machine).await?;
        match self.ended(how) {
            RestoreError::GuestEnded(how) => Some(how),
            _ => None,
        }
    }

    /// The error for a machine that has ended, by the way it did.
    fn ended(&self, how: String) -> RestoreError {
        let death = self.machine.ended().borrow().clone();
        match death.map(|death| death.kind) {
            Some(DeathKind::QemuExited(_) | DeathKind::Quit) => RestoreError::Ended(how),
            Some(DeathKind::Panicked | DeathKind::PoweredOff) | None => {
                RestoreError::GuestEnded(how)
            }
        }
    }
}

/// A VM's name as a host name: letters, digits and hyphens, at most 63.
pub(crate) fn host_name(name: &str) -> String {
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

/// Random bytes of the host.
fn entropy() -> Vec<u8> {
    let mut bytes = vec![0; ENTROPY_BYTES];
    // If the host's kernel has none, the guest still has a generator of its own.
    if rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).is_err() {
        bytes.clear();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_valid_for_any_vm_name() {
        assert_eq!(host_name("Web 1"), "web-1");
        assert_eq!(host_name("--é--"), "guest");
        assert_eq!(host_name(&"x".repeat(100)).len(), 63);
    }
}
