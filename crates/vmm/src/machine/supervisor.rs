//! The task that follows a QEMU process to its end.
//!
//! The end is told only when everything is in that came before it: the last events, which say why,
//! the last bytes of the console, and what QEMU wrote to standard error.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use provium_process::{Child, Exit};
use provium_qmp::{Event, Events};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::handle::{MachineEvent, Told};
use super::resets::Resets;
use crate::arguments::AGENT_PORT_ID;
use crate::console::Console;
use crate::death::{Death, DeathKind, announced};

/// How long the streams of a dead process may take to end. They do at once, unless a descendant that
/// escaped holds them.
const DRAIN: Duration = Duration::from_secs(1);

/// How long a QEMU without a control socket may live on.
const DEAF: Duration = Duration::from_secs(5);

/// After this time without a new byte, what a stopped guest had printed is taken to be here.
const SETTLED: Duration = Duration::from_millis(20);

/// What is kept of standard error, bytes.
const STDERR_KEPT: usize = 4096;

pub(super) struct Supervisor {
    pub(super) child: Child,
    pub(super) events: Events,
    pub(super) stderr: StderrTail,
    pub(super) told: Arc<Told>,
    pub(super) console: Console,
    pub(super) pump: JoinHandle<()>,
    pub(super) resets: Resets,
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
                    None => exit = Some(self.end_of_deaf().await),
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
        let quitting = self.told.quitting.load(Ordering::Relaxed);
        let kind = match (announced, exit) {
            (Some(kind), _) => kind,
            (None, Some(exit)) if !quitting => DeathKind::QemuExited(exit),
            (None, _) => DeathKind::Quit,
        };
        let stderr = self.stderr.finish().await;
        tracing::debug!(?kind, ?exit, stderr, "machine ended");
        self.told.end(Death { kind, stderr });
        self.told.gone.send_replace(true);
    }

    /// Without its control socket a QEMU is of no use: it ends, or is ended.
    async fn end_of_deaf(&self) -> Exit {
        if timeout(DEAF, self.child.wait()).await.is_err() {
            tracing::warn!("QEMU lost its control socket and is killed");
            self.child.kill();
        }
        self.child.wait().await.unwrap_or(Exit::Exited(-1))
    }

    async fn take(&mut self, event: &Event, end: &mut Option<DeathKind>) {
        tracing::trace!(event.name, %event.data, "event");
        if let Some(kind) = announced(event) {
            end.get_or_insert(kind);
            if kind == DeathKind::Panicked {
                // The process stays, so its end will not tell; the console may lag behind.
                let mut seen = self.console.len();
                while let Ok(true) = timeout(SETTLED, self.console.changed_past(seen)).await {
                    seen = self.console.len();
                }
                self.told.end(Death {
                    kind,
                    stderr: self.stderr.so_far(),
                });
            }
        }
        if let Some(event) = self.happened(event) {
            if event == MachineEvent::Rebooted {
                self.told.reboots.send_modify(|count| *count += 1);
            }
            // Nobody may be listening.
            let _ = self.told.events.send(event);
        }
    }

    fn happened(&mut self, event: &Event) -> Option<MachineEvent> {
        Some(match event.name.as_str() {
            "RESET" => {
                let by_guest = event.data["guest"] == true;
                let was_up = self.told.is_up.swap(false, Ordering::AcqRel);
                let console = self.console.len();
                return self.resets.take(by_guest, was_up, Instant::now(), console);
            }
            "VSERPORT_CHANGE" if event.data["id"] == AGENT_PORT_ID => {
                match event.data["open"] == true {
                    true => MachineEvent::PortOpened,
                    false => MachineEvent::PortClosed,
                }
            }
            "STOP" => MachineEvent::Paused,
            "RESUME" => MachineEvent::Resumed,
            "SUSPEND" => MachineEvent::Suspended,
            "WAKEUP" => MachineEvent::Woken,
            _ => return None,
        })
    }
}

/// The end of what QEMU wrote to standard error.
pub(super) struct StderrTail {
    kept: Arc<std::sync::Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl StderrTail {
    pub(super) fn follow(stream: Option<pipe::Receiver>) -> Self {
        let kept = Arc::new(std::sync::Mutex::new(Vec::new()));
        let keep = Arc::clone(&kept);
        let reader = tokio::spawn(async move {
            let Some(mut stream) = stream else { return };
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                let mut kept = keep
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                kept.extend_from_slice(&buffer[..count]);
                let excess = kept.len().saturating_sub(STDERR_KEPT);
                kept.drain(..excess);
            }
        });
        Self { kept, reader }
    }

    fn so_far(&self) -> String {
        let kept = self
            .kept
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        String::from_utf8_lossy(&kept).trim().to_owned()
    }

    /// Everything, now that the process is gone.
    pub(super) async fn finish(mut self) -> String {
        if timeout(DRAIN, &mut self.reader).await.is_err() {
            self.reader.abort();
        }
        self.so_far()
    }
}
