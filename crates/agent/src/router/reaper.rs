//! Signals to the router, above all: children that ended.

use super::lanes::LaneState;
use super::serve::Router;
use crate::init::power;
use crate::sys::boot::Stop;
use crate::sys::process::{self, Ending};
use provium_protocol::Lane;

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
    fn reap(&mut self) {
        while let Ok(Some((pid, ending))) = process::collect(-1) {
            self.doomed.remove(&pid);
            let lane = self.lanes.iter().find_map(|(lane, state)| {
                state
                    .alive()
                    .is_some_and(|executor| executor.pid == pid)
                    .then_some(*lane)
            });
            match lane {
                Some(lane) => self.process_ended(lane, ending),
                None => self.early.push((pid, ending)),
            }
        }
        // Only a fork that is under way can make a stranger one of ours.
        if !self.forks_workers() {
            self.early.clear();
        }
    }

    fn process_ended(&mut self, lane: Lane, ending: Ending) {
        // What it said before it ended still counts.
        while self.take_packet(lane) {}
        self.lane_ended(lane, &ending.to_string());
    }

    /// A worker that is known only now may have ended already.
    pub(super) fn catch_up_with_early_end(&mut self, lane: Lane) {
        let Some(pid) = self
            .lanes
            .get(&lane)
            .and_then(LaneState::alive)
            .map(|found| found.pid)
        else {
            return;
        };
        if let Some(at) = self.early.iter().position(|(early, _)| *early == pid) {
            let (_, ending) = self.early.remove(at);
            self.process_ended(lane, ending);
        }
    }
}
