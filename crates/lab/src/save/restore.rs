//! From a saved VM to a machine that runs, with an identity of its own.

use crate::environment::{EnvironmentError, Host};
use crate::guest::answer::{NoAnswer, answer_of, end_of};
use crate::save::{Base, SavedVm};
use camino::Utf8PathBuf;
use provium_guest::{CallError, Channel, ModuleProvider};
use provium_image::AGENT_BUILD;
use provium_protocol::op::SetIdentity;
use provium_vmm::{ConsoleLog, DeathKind, Machine, Standby};
use std::sync::Arc;
use std::time::Duration;

/// Bytes that a guest's random generator is rekeyed with.
const ENTROPY_BYTES: usize = 32;

/// What a guest gets when it comes up.
#[derive(Debug, Clone, Default)]
pub(crate) struct Identity {
    /// CLOCK_REALTIME, nanoseconds since 1970; `None`: as it was.
    pub(crate) realtime_ns: Option<i64>,
    /// `None`: as it was.
    pub(crate) hostname: Option<String>,
    /// Its hardware random number generator gives a stream that a seed fixes.
    pub(crate) is_seeded: bool,
}

impl Identity {
    /// The request that sets it, with fresh randomness, which no two guests share.
    pub(crate) fn request(self) -> SetIdentity {
        SetIdentity {
            realtime_ns: self.realtime_ns,
            hostname: self.hostname,
            entropy: entropy(),
            fresh_hwrng: !self.is_seeded,
        }
    }
}

/// A machine that stands still, and the channel to its agent, which is quiet.
pub(crate) struct Revived {
    pub(crate) machine: Machine,
    pub(crate) channel: Channel,
    pub(crate) base: Arc<Base>,
}

/// Why a saved VM did not come back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReviveError {
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    #[error("its agent does not answer")]
    Agent(#[source] CallError),
    /// The agent is well, but cannot do what it is told: set that clock, for one.
    #[error("its agent refuses")]
    Refused(#[source] CallError),
    #[error("its machine ended: {0}")]
    Ended(String),
    /// Its guest ended by itself, as it would have without having been saved.
    #[error("its guest ended: {0}")]
    GuestEnded(String),
    #[error("its agent did not answer within {0:?}")]
    Silent(Duration),
}

impl ReviveError {
    /// Whether it is of the saved VM, as in [`is_damage`](crate::save::is_damage).
    pub(crate) fn is_of_saved_state(&self) -> bool {
        match self {
            Self::Environment(EnvironmentError::Machine(error)) => error.is_of_saved_state(),
            _ => false,
        }
    }
}

impl Revived {
    /// Starts the machine of `saved`, which was booted from `kernel`, or takes the `spare` that stands
    /// there already.
    pub(crate) async fn load(
        saved: &SavedVm,
        spare: Option<Standby>,
        name: &str,
        kernel: Utf8PathBuf,
        host: &Host,
        console: ConsoleLog,
        asks: Arc<dyn ModuleProvider>,
    ) -> Result<Self, ReviveError> {
        let standby = match spare {
            Some(standby) => standby,
            None => {
                let machine = saved.machine.clone();
                let standby = Standby::restore(machine, name.to_owned(), kernel, &host.qemu).await;
                standby.map_err(EnvironmentError::Machine)?
            }
        };
        let machine = standby.assign(name.to_owned(), console).await;
        let machine = machine.map_err(EnvironmentError::Machine)?;
        let cut = &saved.facts.cut;
        let streams = machine
            .take_agent_streams()
            .ok_or(EnvironmentError::NoMachines)?;
        let stream = if cut.transport() == 0 {
            streams.virtio
        } else {
            streams.uart
        };
        let channel = Channel::resume(stream, cut, AGENT_BUILD, asks);
        Ok(Self {
            machine,
            channel,
            base: Arc::clone(&saved.base),
        })
    }

    /// Lets it go on as `identity`; `limit` is how long its agent may take.
    pub(crate) async fn wake(
        &self,
        identity: Identity,
        limit: Duration,
    ) -> Result<(), ReviveError> {
        // The request waits in the guest's port before its first vCPU runs: until it has been carried out,
        // each copy's processes draw the same random numbers.
        let set = self.channel.set_identity(identity.request());
        let set = answer_of(&self.machine, limit, set);
        let (set, resumed) = futures_util::future::join(set, self.machine.resume()).await;
        resumed.map_err(EnvironmentError::Machine)?;
        match set {
            Ok(Ok(())) => {
                self.machine.mark_agent_up();
                Ok(())
            }
            Ok(Err(error)) if error.channel().is_none() => Err(ReviveError::Refused(error)),
            Ok(Err(error)) => Err(match end_of(&self.machine).await {
                Some(end) => self.ended(end),
                None => ReviveError::Agent(error),
            }),
            Err(NoAnswer::Ended(how)) => Err(self.ended(how)),
            Err(reset @ NoAnswer::Reset) => Err(ReviveError::GuestEnded(reset.to_string())),
            Err(NoAnswer::Late) => Err(ReviveError::Silent(limit)),
        }
    }
}

impl Revived {
    /// Why there is no answer, by how the machine has ended, if it has.
    fn ended(&self, how: String) -> ReviveError {
        let death = self.machine.ended().borrow().clone();
        match death.map(|death| death.kind) {
            Some(DeathKind::QemuExited(_) | DeathKind::Quit) => ReviveError::Ended(how),
            Some(DeathKind::Panicked | DeathKind::PoweredOff) | None => {
                ReviveError::GuestEnded(how)
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

/// Bytes that nobody else has.
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
