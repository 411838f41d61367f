//! How a VM ends, and how that is reported.

use crate::vm::handle::Vm;
use crate::vm::running::{DeathReport, RunningMachine};
use crate::vm::state::Stage;
use provium_events::Event;
use std::sync::Arc;

/// How much of the console goes into an error about a VM that has died, bytes.
const CONSOLE_SHOWN: usize = 1024;

/// How much of it goes into the error of a boot, bytes: the registers and the call trace of a panic, and the
/// lines before them.
const BOOT_CONSOLE_SHOWN: usize = 8192;

/// The prefix of the agent's own lines on the console.
const AGENT_PREFIX: &str = "provium-agent: ";

/// How the guest ended, with the reason that its kernel and its agent printed, if they did.
pub(super) fn with_reason(vm: &Vm, how: String) -> String {
    let Some(reason) = vm.console().panic_reason() else {
        return how;
    };
    match agent_complaint(vm) {
        Some(complaint) => format!("{how}: {reason} (the agent said: {complaint})"),
        None => format!("{how}: {reason}"),
    }
}

/// The last line that the agent printed on the console.
fn agent_complaint(vm: &Vm) -> Option<String> {
    let tail = vm.console().tail(2 * BOOT_CONSOLE_SHOWN);
    let at = tail.rfind(AGENT_PREFIX)? + AGENT_PREFIX.len();
    let line = tail[at..].lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

/// The end of the console, for the error of a boot.
pub(super) fn boot_console_tail(vm: &Vm) -> String {
    vm.console().settle();
    vm.console().tail(BOOT_CONSOLE_SHOWN)
}

/// Ends a VM that has become unusable: from here on it is dead, and every call reports how it died.
pub(super) async fn die(vm: &Vm, running: &Arc<RunningMachine>, how: String) -> Arc<DeathReport> {
    let elapsed = running.booted_at.elapsed().as_secs_f64();
    let how = with_reason(vm, format!("{elapsed:.1} s after its boot: {how}"));
    end_machine(vm, running).await;
    let report = Arc::new(DeathReport {
        how,
        console: vm.console().tail(CONSOLE_SHOWN),
        in_test: vm.0.file.current_test.name(),
        current_test: vm.0.file.current_test.clone(),
    });
    if vm
        .0
        .replace_stage(running, Stage::Dead(Arc::clone(&report)))
    {
        emit_shutdown(vm, running);
    }
    running.channel.shut_down("the VM is dead");
    report
}

/// Ends the machine of a VM that is off on purpose, or by its power button.
pub(super) async fn shut_down(vm: &Vm, running: &Arc<RunningMachine>) {
    let ours = vm.0.replace_stage(running, Stage::Shutdown);
    running.channel.shut_down("the VM was shut down");
    end_machine(vm, running).await;
    if ours {
        emit_shutdown(vm, running);
    }
}

/// Ends the machine; its disks stay.
async fn end_machine(vm: &Vm, running: &RunningMachine) {
    running.quit().await;
    if vm
        .0
        .stage
        .borrow()
        .running()
        .is_none_or(|now| std::ptr::eq(&raw const **now, running))
    {
        vm.0.disks.leave_machine();
    }
    running.release();
}

/// Reports that the machine `running` of a VM has ended.
pub(crate) fn emit_shutdown(vm: &Vm, running: &RunningMachine) {
    let elapsed = running.booted_at.elapsed();
    vm.0.environment().sink().emit(Event::VmShutdown {
        file: vm.0.file.path.clone(),
        vm_name: vm.name().to_owned(),
        duration_ns: u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX),
    });
}
