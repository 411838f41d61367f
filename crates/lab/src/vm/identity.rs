//! The identity of a guest, which its agent sets: name, clock, entropy.

use crate::errno;
use crate::guest::clock::note_on_initial_time;
use crate::host_time::now_ns;
use crate::save::{Identity, host_name};
use crate::vm::handle::Vm;
use crate::vm_options::VmOptions;
use provium_guest::CallError;
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

/// What an agent says that could not set the identity.
pub(super) fn refusal(options: &VmOptions, error: &CallError) -> String {
    let text = format!("the agent says: {error}");
    match error.errno() {
        None => text,
        Some(number) => {
            let note = options
                .initial_time_ns
                .map_or_else(String::new, |_| note_on_initial_time(number));
            format!("{text}: {}{note}", errno::describe(number))
        }
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
