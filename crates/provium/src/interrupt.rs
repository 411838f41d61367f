//! Ctrl-C, SIGTERM, and the end of the terminal (SIGHUP, unless it was ignored at the start, as
//! `nohup` does).
//!
//! The first one ends the run in good order: nothing more starts, and what runs cleans up. The
//! second one ends the process at once; the machines die with it, for each carries a parent-death
//! signal.
//!
//! A thread of its own listens, and waits for nothing but signals: not for a reader of the output,
//! not for a lock that a writer holds, not for the runtime. What the second signal does not end within
//! a short time, it ends by itself.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::terminal;
use provium_runner::Stop;
use std::future::Future;
use std::io;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// How long the process may take to end after the second signal.
const AT_ONCE: Duration = Duration::from_secs(2);

/// The exit code of a process that could not end by itself, as of an interrupted run.
const FORCED: i32 = Exit::Interrupted.code() as i32;

/// Counts the signals that ask the process to end.
#[derive(Debug, Clone)]
pub(crate) struct Interrupts(watch::Receiver<u32>);

impl Interrupts {
    /// From now on signals are counted instead of ending the process.
    pub(crate) fn listen(stop: Stop) -> Result<Self, Failure> {
        let refused = |source| Failure::Host {
            what: "a signal handler",
            source,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(refused)?;
        let mut signals = {
            let _inside = runtime.enter();
            Signals::listen().map_err(refused)?
        };
        let (count, receiver) = watch::channel(0);
        let thread = std::thread::Builder::new().name("signals".to_owned());
        let listen = async move {
            signals.next().await;
            terminal::restore_mode();
            // Printed first, so that it precedes the effects.
            terminal::notice("provium: stopping; a second signal stops at once\n");
            stop.cancel();
            count.send_replace(1);
            signals.next().await;
            count.send_replace(2);
            tokio::time::sleep(AT_ONCE).await;
            terminal::restore_mode();
            provium_process::exit_now(FORCED)
        };
        let thread = thread.spawn(move || runtime.block_on(listen));
        thread.map_err(refused)?;
        Ok(Self(receiver))
    }

    /// Returns once there were `count` of them.
    pub(crate) async fn at_least(&self, count: u32) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|have| *have >= count).await.is_err() {
            // The listener is gone, so there will be none.
            std::future::pending::<()>().await;
        }
    }

    /// `work`, unless the user ends it first.
    pub(crate) async fn or<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            result = work => result,
            () = self.at_least(1) => Err(Failure::Interrupted),
        }
    }
}

/// The signals that end a run.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        let hangup = || signal(SignalKind::hangup());
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: (!hangup_is_ignored()).then(hangup).transpose()?,
        })
    }

    async fn next(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = hangup => {}
        }
    }
}

/// Whether this process was started with SIGHUP ignored: bit 0 of `SigIgn` (`proc_pid_status(5)`).
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & 1 == 1)
}
