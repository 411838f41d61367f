//! What the agent of a guest sets: name, clock, randomness.

use crate::host_time::now_ns;
use crate::save::{Identity, host_name};
use crate::vm::handle::Vm;
use crate::vm_options::VmOptions;
use provium_image::AGENT_BUILD;
use provium_protocol::message::HostHello;

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
