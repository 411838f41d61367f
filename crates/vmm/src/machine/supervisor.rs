//! The task that follows a QEMU process to its end.
//!
//! It reports the end only when it has everything that came before it: the last events, which say why,
//! the last bytes of the console, and what QEMU wrote to standard error.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use provium_process::{Child, Exit};
use provium_qmp::{Event, Events};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::devices::{Disks, Nics};
use super::resets::Resets;
use super::status::{MachineEvent, MachineStatus};
use super::stderr::StderrTail;
use crate::arguments::AGENT_PORT_ID;
use crate::console::ConsoleLog;
use crate::death::{Death, DeathKind, announced};

/// How long the streams of a dead process may take to end. They end with it, unless a descendant that
/// escaped holds them open.
const DRAIN: Duration = Duration::from_secs(1);

/// How long a QEMU that has closed its control socket may take to end before it is killed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// After this time without a new byte, the console of a stopped guest is taken to be complete.
const SETTLED: Duration = Duration::from_millis(20);

pub(super) struct Supervisor {
    pub(super) child: Child,
    pub(super) events: Events,
    pub(super) stderr: StderrTail,
    pub(super) status: Arc<MachineStatus>,
    pub(super) console: ConsoleLog,
    pub(super) pump: JoinHandle<()>,
    pub(super) resets: Resets,
    pub(super) nics: Arc<Nics>,
    pub(super) disks: Arc<Disks>,
}

impl Supervisor {
    pub(super) async fn run(mut self) {
        let mut announced = None;
        let mut exit = None;
        while exit.is_none() {
            tokio::select! {
                biased;
                event = self.events.next() => match event {
                    Some(event) => self.take(&event, &mut announced).await,
                    None => exit = Some(self.end_without_socket().await),
                },
                ended = self.child.wait() => exit = Some(ended.unwrap_or(Exit::Exited(-1))),
            }
        }
        while let Ok(Some(event)) = timeout(DRAIN, self.events.next()).await {
            self.take(&event, &mut announced).await;
        }
        if timeout(DRAIN, &mut self.pump).await.is_err() {
            self.pump.abort();
        }
        let quitting = self.status.quitting.load(Ordering::Relaxed);
        let kind = match (announced, exit) {
            (Some(kind), _) => kind,
            (None, Some(exit)) if !quitting => DeathKind::QemuExited(exit),
            (None, _) => DeathKind::Quit,
        };
        let stderr = self.stderr.finish().await;
        tracing::debug!(?kind, ?exit, stderr, "machine ended");
        self.status.end(Death { kind, stderr });
        self.status.gone.send_replace(true);
    }

    /// QEMU closed its control socket: it is ending, or is killed.
    async fn end_without_socket(&self) -> Exit {
        if timeout(EXIT_TIMEOUT, self.child.wait()).await.is_err() {
            tracing::warn!("QEMU lost its control socket and is killed");
            self.child.kill();
        }
        self.child.wait().await.unwrap_or(Exit::Exited(-1))
    }

    async fn take(&mut self, event: &Event, end: &mut Option<DeathKind>) {
        tracing::trace!(event.name, %event.data, "event");
        self.nics.note(event);
        self.disks.note(event);
        if let Some(kind) = announced(event) {
            end.get_or_insert(kind);
            if kind == DeathKind::Panicked {
                // The process stays, so its end does not report this; the console may lag behind.
                let mut seen = self.console.len();
                while let Ok(true) = timeout(SETTLED, self.console.changed_past(seen)).await {
                    seen = self.console.len();
                }
                self.status.end(Death {
                    kind,
                    stderr: self.stderr.so_far(),
                });
            }
        }
        if let Some(event) = self.happened(event) {
            if event == MachineEvent::Rebooted {
                self.status.reboots.send_modify(|count| *count += 1);
            }
            // There may be no subscriber.
            let _ = self.status.events.send(event);
        }
    }

    fn happened(&mut self, event: &Event) -> Option<MachineEvent> {
        Some(match event.name.as_str() {
            "RESET" => {
                let by_guest = event.data["guest"] == true;
                let was_up = self.status.is_up.swap(false, Ordering::AcqRel);
                let console = self.console.len();
                return self.resets.take(by_guest, was_up, Instant::now(), console);
            }
            "VSERPORT_CHANGE" if event.data["id"] == AGENT_PORT_ID => {
                match event.data["open"] == true {
                    true => MachineEvent::PortOpened,
                    false => MachineEvent::PortClosed,
                }
            }
            "GUEST_PANICKED" if event.data["action"] == "run" => MachineEvent::Panicked,
            "STOP" => MachineEvent::Paused,
            "RESUME" => MachineEvent::Resumed,
            "SUSPEND" => MachineEvent::Suspended,
            "WAKEUP" => MachineEvent::Woken,
            _ => return None,
        })
    }
}
