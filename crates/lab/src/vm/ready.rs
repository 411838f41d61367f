//! Waiting until a guest that has booted is ready for tests.
//!
//! An init of the guest's own starts its services after the agent has answered. The command of the profile says when
//! that is done: a boot from a template begins there, since the template is saved behind it.

use crate::guest::wait::{GuestWait, WaitError, machine_end};
use provium_events::printable::text_of;
use provium_guest::Channel;
use provium_protocol::Lane;
use provium_protocol::op::Exec;
use provium_vmm::Machine;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::sleep;

/// How long to wait before the command is run again.
const INTERVAL: Duration = Duration::from_millis(100);

/// How much of its output an error may show, bytes.
const MAX_OUTPUT: usize = 4096;

/// Runs the command again and again until it succeeds. The error says why the guest is not ready.
pub(super) async fn await_ready(
    machine: &Machine,
    channel: &Channel,
    command: &str,
    limit: Duration,
) -> Result<(), String> {
    let last = Mutex::new(String::new());
    let succeeds = async {
        loop {
            let why = run(channel, command).await?;
            let Some(why) = why else {
                return Ok(());
            };
            *crate::lock::lock(&last) = why;
            sleep(INTERVAL).await;
        }
    };
    match GuestWait::new(machine, limit).until(succeeds).await {
        Ok(Ok(())) => Ok(()),
        // The channel ends with the guest, and may do so first.
        Ok(Err(why)) => Err(match machine_end(machine).await {
            Some(end) => format!("{end}, while `ready` of the profile, `{command}`, was run"),
            None => why,
        }),
        Err(WaitError::TimedOut(_)) => {
            let last = crate::lock::lock(&last).clone();
            Err(format!(
                "it was not ready within {limit:?}: `ready` of the profile, `{command}`, has not succeeded{last}; if \
                 the guest needs longer, raise `agent_boot_timeout`"
            ))
        }
        Err(ended) => Err(ended.to_string()),
    }
}

/// Runs it once. `None` if it succeeds, else how it ended; an error if the agent is gone.
async fn run(channel: &Channel, command: &str) -> Result<Option<String>, String> {
    let command = channel
        .lane(Lane::VM)
        .command(Exec::shell(command), MAX_OUTPUT);
    let exit = match command.wait().await {
        Ok(exit) => exit,
        Err(error) if error.channel().is_some() => return Err(error.to_string()),
        Err(error) => return Ok(Some(format!(" ({error})"))),
    };
    if exit.code == Some(0) {
        return Ok(None);
    }
    let said = [command.output(), command.error()]
        .map(|output| text_of(&output.contents().bytes).trim().to_owned())
        .concat();
    let how = match exit.code {
        Some(code) => format!("exit code {code}"),
        None => "killed by a signal".to_owned(),
    };
    Ok(Some(format!(" (last: {how}; {said})")))
}
