//! The machine that a VM runs on, with the session of its agent. Data only.

use crate::disk::{DrainGuard, ServedDisks, VmDisk};
use crate::environment::EndMachine;
use crate::error::{LabError, died};
use crate::guest::target::AgentLink;
use crate::lock::lock;
use crate::resource::Generation;
use crate::save::Base;
use crate::test_file::CurrentTest;
use crate::vm::nic::VmNic;
use futures_util::future::BoxFuture;
use provium_events::BootKind;
use provium_guest::Channel;
use provium_pool::Grant;
use provium_vmm::{Machine, NicSlot};
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

/// The machine of a VM that runs.
pub(crate) struct RunningMachine {
    pub(crate) machine: Machine,
    pub(crate) channel: Channel,
    pub(crate) generation: Generation,
    /// How it was started.
    pub(crate) boot_kind: BootKind,
    /// The profile that its guest was booted from: the VM's, or the profile of the snapshot's VM.
    pub(crate) profile: String,
    /// The saved VM whose RAM it shares.
    pub(crate) base: Option<Arc<Base>>,
    pub(crate) cid: u32,
    pub(crate) booted_at: Instant,
    pub(crate) boot_time: Duration,
    pub(crate) grant: Mutex<Option<Grant>>,
    /// The task of its monitor.
    pub(crate) monitor: Mutex<Option<AbortHandle>>,
    /// When its power button was pressed, since the guest's last boot.
    pub(crate) pressed: Mutex<Option<Instant>>,
    /// NICs that the machine has and the VM has no more.
    pub(crate) leaving_nics: Mutex<Vec<NicSlot>>,
    /// The guest does not have the NICs that the VM has: they changed while it was paused.
    pub(crate) network_is_stale: AtomicBool,
    /// What serves its disks.
    pub(crate) served_disks: ServedDisks,
    /// While the VM is paused.
    pub(crate) paused_disks: Mutex<Option<DrainGuard>>,
}

/// A machine whose guest runs, before it is installed.
pub(crate) struct StartedMachine {
    pub(crate) machine: Machine,
    pub(crate) channel: Channel,
    pub(crate) kind: BootKind,
    /// The profile that its guest was booted from.
    pub(crate) profile: String,
    /// The saved VM whose RAM it shares.
    pub(crate) base: Option<Arc<Base>>,
    /// The NICs that its guest has, with their slots.
    pub(crate) nics: Vec<VmNic>,
    /// The sockets of those that were plugged in.
    pub(crate) plugged: Vec<(NicSlot, UnixStream)>,
    /// The disks that its guest has, with their slots.
    pub(crate) disks: Vec<VmDisk>,
    /// What serves them.
    pub(crate) served_disks: ServedDisks,
}

/// How a VM died.
#[derive(Debug)]
pub(crate) struct DeathReport {
    pub(crate) how: String,
    pub(crate) console: String,
    /// The test in which it died; `None`: outside of the tests, or in one of several that run in parallel.
    pub(crate) in_test: Option<String>,
    pub(crate) current_test: CurrentTest,
}

impl DeathReport {
    /// That the VM is dead, and how it died.
    pub(crate) fn describe(&self) -> String {
        let in_test = self.in_earlier_test();
        format!("{}: {}", died(in_test.as_deref()), self.how)
    }

    /// The test in which it died, unless that still runs.
    fn in_earlier_test(&self) -> Option<String> {
        let in_test = self.in_test.clone();
        in_test.filter(|test| self.current_test.name().as_deref() != Some(test))
    }

    pub(crate) fn error(&self, subject: String, call: String) -> LabError {
        let in_test = self.in_earlier_test();
        // The report of that test shows the console.
        let console = match in_test {
            Some(_) => String::new(),
            None => self.console.clone(),
        };
        LabError::Dead {
            subject,
            call,
            in_test,
            how: self.how.clone(),
            console,
        }
    }
}

impl EndMachine for RunningMachine {
    fn end(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.quit())
    }
}

impl RunningMachine {
    /// It, as a call to the guest needs it.
    pub(crate) fn link(&self) -> AgentLink {
        AgentLink {
            channel: self.channel.clone(),
            generation: self.generation,
        }
    }

    /// Ends the machine, and what serves its disks: QEMU waits for the commands in flight.
    pub(crate) async fn quit(&self) {
        {
            let _drain = self.served_disks.drain();
            self.machine.quit().await;
        }
        self.served_disks.end();
    }

    /// Returns memory and processors to the pool.
    pub(crate) fn release(&self) {
        drop(lock(&self.grant).take());
    }

    pub(crate) fn stop_monitor(&self) {
        let monitor = lock(&self.monitor).take();
        if let Some(monitor) = monitor {
            monitor.abort();
        }
    }
}
