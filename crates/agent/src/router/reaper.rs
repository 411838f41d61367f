//! Signals to the router, above all: children that ended.

use super::serve::Router;
use crate::init::power;
use crate::sys::boot::Stop;
use crate::sys::{process, signal};

impl Router {
    pub(super) fn signals(&mut self) {
        while let Some(signal) = self.duties.signals.next() {
            match signal {
                libc::SIGCHLD => {}
                // What `halt`, `poweroff` and `reboot` of busybox send to process 1.
                libc::SIGUSR1 => power::stop(Stop::Halt),
                libc::SIGUSR2 => power::stop(Stop::PowerOff),
                libc::SIGTERM | libc::SIGINT => power::stop(Stop::Reboot),
                _ => {}
            }
        }
        // Signals of one kind melt into one, so whatever came: look.
        self.reap();
    }

    /// Collects all children that ended: executors, and (as process 1) whatever lost its parent.
    pub(super) fn reap(&mut self) {
        // A command that stops its parent would stop everything.
        if let Some(executor) = &self.executor
            && process::has_stopped(executor.pid)
        {
            let _ = signal::send(executor.pid, libc::SIGCONT, false);
        }
        while let Ok(Some((pid, ending))) = process::collect() {
            self.doomed.remove(&pid);
            let is_executor = self
                .executor
                .as_ref()
                .is_some_and(|executor| executor.pid == pid);
            if is_executor {
                // What it said before it ended still counts.
                while self.take_packet() {}
                self.executor_ended(&ending.to_string());
            }
        }
    }
}
