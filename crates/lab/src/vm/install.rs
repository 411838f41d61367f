//! Makes a machine that runs the machine of its VM.

use crate::environment::EndMachine;
use crate::lock::lock;
use crate::resource::Generation;
use crate::vm::handle::Vm;
use crate::vm::monitor::monitor;
use crate::vm::nic::connect_nics;
use crate::vm::panic;
use crate::vm::running::{RunningMachine, StartedMachine};
use crate::vm::state::Stage;
use provium_events::Event;
use provium_pool::Grant;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Installs the machine: from here on the VM is booted.
pub(crate) fn install(vm: &Vm, started: StartedMachine, grant: Grant, boot_time: Duration) {
    let running = Arc::new(RunningMachine {
        machine: started.machine,
        channel: started.channel,
        generation: Generation::next(),
        boot_kind: started.kind,
        profile: started.profile,
        base: started.base,
        cid: vm.0.environment().next_cid(),
        booted_at: Instant::now(),
        boot_time,
        grant: Mutex::new(Some(grant)),
        monitor: Mutex::new(None),
        pressed: Mutex::new(None),
        leaving_nics: Mutex::default(),
        network_is_stale: AtomicBool::new(false),
        served_disks: started.served_disks,
        paused_disks: Mutex::default(),
    });
    running.machine.mark_agent_up();
    vm.0.disks.set(started.disks);
    vm.0.take_slots(&started.nics);
    connect_nics(&running.machine, &started.nics, started.plugged);
    let on_panic = lock(&vm.0.booted_with).on_panic;
    panic::set_action(on_panic, &running);
    vm.0.stage.send_replace(Stage::Booted(Arc::clone(&running)));
    let machine: Arc<dyn EndMachine> = Arc::<RunningMachine>::clone(&running);
    vm.0.environment().note_machine(&vm.0.file.path, &machine);
    monitor(vm, &running);
    vm.0.environment().sink().emit(Event::VmSpawned {
        file: vm.0.file.path.clone(),
        vm_name: vm.name().to_owned(),
        profile: vm.profile().to_owned(),
        memory_bytes: running.machine.memory(),
        cid: running.cid,
        boot: running.boot_kind,
        boot_ns: u64::try_from(running.boot_time.as_nanos()).unwrap_or(u64::MAX),
    });
}
