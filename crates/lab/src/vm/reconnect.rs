//! Reconnects to the agent of a guest that boots again, on the machine that it had.

use crate::guest::wait::{GuestWait, RequestError, WaitError};
use crate::lock::lock;
use crate::vm::disk::settle_again;
use crate::vm::handle::Vm;
use crate::vm::identity::{host_hello, identity};
use crate::vm::nic::reconcile_network;
use crate::vm::ready::await_ready;
use crate::vm::running::RunningMachine;
use provium_guest::ResyncCause;

/// Waits for the agent, under the limit of a boot. An error says why it did not answer.
pub(super) fn reconnect<'a>(
    vm: &'a Vm,
    running: &'a RunningMachine,
) -> impl Future<Output = Result<(), String>> + Send + 'a {
    let options = lock(&vm.0.booted_with).clone();
    let limit = vm.0.agent_limit(&options);
    let booting = vm.clone();
    let named = options.clone();
    // Made when the agent has answered, since it has the time.
    let hello = move || identity(&booting, &options).request();
    async move {
        let back = running
            .channel
            .resync_as(host_hello(), ResyncCause::Reboot, hello);
        let no_reply = match GuestWait::new(&running.machine, limit).reply(back).await {
            Ok(_) => {
                running.machine.mark_agent_up();
                if let Some(command) = &vm.0.profile.ready {
                    await_ready(&running.machine, &running.channel, command, limit).await?;
                    // The init has set the name of its own configuration.
                    let set = identity(vm, &named).request();
                    let set = running.channel.set_identity(set).await;
                    set.map_err(|error| error.to_string())?;
                }
                let set = reconcile_network(vm, "reset()", running).await;
                set.map_err(|error| error.to_string())?;
                let set = settle_again(vm, running).await;
                return set.map_err(|error| error.to_string());
            }
            Err(RequestError::Failed(error)) => return Err(error.to_string()),
            Err(RequestError::NoReply(no_reply)) => no_reply,
        };
        Err(match no_reply {
            WaitError::Ended(how) => how,
            WaitError::Reset => "it reset the machine again before its agent answered".to_owned(),
            WaitError::TimedOut(processors) => {
                format!("its agent did not answer again within {limit:?}; {processors}")
            }
        })
    }
}
