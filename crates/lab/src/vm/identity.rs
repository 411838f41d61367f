//! What the agent of a guest sets: name, clock, randomness; and how long it may take to answer.

use crate::host_time::now_ns;
use crate::save::{Identity, host_name};
use crate::vm::handle::Vm;
use crate::vm::options::VmOptions;
use provium_image::AGENT_BUILD;
use provium_protocol::message::HostHello;
use std::time::Duration;

/// The identity of the guest after a boot.
pub(super) fn identity(vm: &Vm, options: &VmOptions) -> Identity {
    Identity {
        realtime_ns: Some(options.initial_time_ns.unwrap_or_else(now_ns)),
        hostname: Some(host_name(vm.name())),
        is_seeded: options.rng_seed.is_some(),
    }
}

/// The greeting of a new session, whose number the channel chooses.
pub(super) fn host_hello() -> HostHello {
    HostHello {
        protocol: provium_protocol::PROTOCOL_VERSION,
        build: AGENT_BUILD.to_owned(),
        session: 0,
    }
}

/// How long the agent may take to answer, as the author or the profile has set it.
pub(super) fn agent_timeout(vm: &Vm, options: &VmOptions) -> Duration {
    let profile = &vm.0.profile;
    options.agent_timeout.unwrap_or(profile.agent_boot_timeout)
}

impl Vm {
    /// The same, times the timeout multiplier.
    pub(crate) fn agent_limit(&self, options: &VmOptions) -> Duration {
        self.environment()
            .scale_timeout(agent_timeout(self, options))
    }
}
