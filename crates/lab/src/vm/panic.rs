//! The restart of a guest whose kernel has panicked and that is to boot again.
//!
//! A kernel prints what it does after a panic: it resets the machine after the seconds of its `panic=`, at
//! once where they are negative, or stays as it is (`panic()` in `kernel/panic.c`). Only in the last case the
//! host resets the machine.

use crate::vm::handle::Vm;
use crate::vm::running::RunningMachine;
use crate::vm::state::Lifecycle;
use crate::vm_options::OnPanic;
use provium_vmm::{MachineEvent, PanicAction};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::Instant;

/// How much of the console is searched for what the kernel does next, bytes: registers and call trace are
/// before it.
const CONSOLE_SEARCHED: usize = 16 << 10;

/// How long the kernel may take to print that, before the timeout multiplier. Without a word the host resets
/// the machine then.
const DECISION_LIMIT: Duration = Duration::from_secs(2);

/// How much longer than it has announced a kernel may take to reset the machine, before the timeout multiplier.
const REBOOT_GRACE: Duration = Duration::from_secs(5);

/// Who has reset the machine of a guest that has panicked.
pub(super) enum Restart {
    /// Its kernel.
    Guest,
    /// The host, which operates on the machine until this is dropped.
    Host(Lifecycle),
    /// Another call, which waits for the agent itself.
    Call,
}

/// What a kernel that has panicked does next.
#[derive(Debug, PartialEq, Eq)]
enum Announcement {
    /// It resets the machine after this time.
    Reboot(Duration),
    /// It stays as it is.
    Halt,
}

/// Waits until the guest, whose kernel has panicked, resets the machine; resets it if the kernel will not.
///
/// # Errors
/// When QEMU ends or refuses.
pub(super) async fn restart(
    vm: &Vm,
    running: &RunningMachine,
    events: &mut broadcast::Receiver<MachineEvent>,
) -> Result<Restart, String> {
    let environment = vm.0.environment();
    let console = vm.console().log();
    let panicked = Instant::now();
    let mut deadline = panicked + environment.scale_timeout(DECISION_LIMIT);
    let mut ended = running.machine.ended();
    loop {
        let seen = console.len();
        match announced(&vm.console().tail(CONSOLE_SEARCHED)) {
            Some(Announcement::Halt) => break,
            Some(Announcement::Reboot(after)) => {
                deadline = panicked + environment.scale_timeout(after + REBOOT_GRACE);
            }
            None => {}
        }
        tokio::select! {
            biased;
            event = events.recv() => match event {
                Ok(MachineEvent::Rebooted) => return Ok(Restart::Guest),
                Ok(MachineEvent::Reset) => return Ok(Restart::Call),
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Err("QEMU ended".to_owned()),
            },
            _ = ended.wait_for(Option::is_some) => return Err("QEMU ended".to_owned()),
            true = console.changed_past(seen) => {}
            () = tokio::time::sleep_until(deadline) => break,
        }
    }
    // A call that operates on the machine may reset it itself.
    let lifecycle = vm.0.lifecycle().await;
    while let Ok(event) = events.try_recv() {
        match event {
            MachineEvent::Rebooted => return Ok(Restart::Guest),
            MachineEvent::Reset => return Ok(Restart::Call),
            _ => {}
        }
    }
    let reset = running.machine.reset().await;
    reset.map_err(|error| crate::error::chain(&error))?;
    Ok(Restart::Host(lifecycle))
}

/// What the kernel has printed about its plans after the last panic in `console`.
fn announced(console: &str) -> Option<Announcement> {
    let end = console.rfind("---[ end Kernel panic");
    let reboot = console.rfind("Rebooting in ");
    // Where the text of the panic itself is out of reach, so are the plans of an earlier one.
    let panic = console.rfind("] Kernel panic - not syncing").unwrap_or(0);
    if end.is_some_and(|end| end > panic) {
        return Some(Announcement::Halt);
    }
    let reboot = &console[reboot.filter(|reboot| *reboot > panic)?..];
    let seconds = reboot.strip_prefix("Rebooting in ")?;
    let seconds = seconds.split_once(" seconds")?.0.parse().ok()?;
    Some(Announcement::Reboot(Duration::from_secs(seconds)))
}

/// Makes the machine do what the VM was booted with.
pub(super) fn set_action(on_panic: Option<OnPanic>, running: &Arc<RunningMachine>) {
    let action = match on_panic.unwrap_or_default() {
        OnPanic::Stop => PanicAction::Pause,
        OnPanic::Reboot => PanicAction::Continue,
    };
    if action != PanicAction::default() {
        running.machine.queue_panic_action(action);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plans_of_a_kernel_are_read_after_its_last_panic() {
        let panic = "[    3.1] Kernel panic - not syncing: sysrq triggered crash\n[ 3.1] CPU: 0\n";
        let reboot = "[    3.2] Rebooting in 5 seconds..\n";
        let end = "[    3.2] ---[ end Kernel panic - not syncing: sysrq triggered crash ]---\n";
        let plan = |parts: &[&str]| announced(&parts.concat());
        let reboots = Some(Announcement::Reboot(Duration::from_secs(5)));
        assert_eq!(plan(&[]), None);
        assert_eq!(plan(&[panic]), None);
        assert_eq!(plan(&[panic, reboot]), reboots);
        assert_eq!(plan(&[panic, end]), Some(Announcement::Halt));
        assert_eq!(plan(&[panic, end, panic]), None, "of an earlier panic");
        assert_eq!(plan(&[panic, end, panic, reboot]), reboots);
        assert_eq!(plan(&[panic, "[ 3.2] Rebooting in 5"]), None, "cut");
    }
}
