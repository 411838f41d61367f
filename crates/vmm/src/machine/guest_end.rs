//! Whether a guest has ended, for those that carry out its I/O.
//!
//! When a guest panics or switches itself off, QEMU flushes its disks, which the guest has not requested. What tells
//! such a flush from one of the guest's is that QEMU writes an event to its control socket first:
//!
//! ```text
//! panic:      GUEST_PANICKED ── vCPUs stop ── STOP ── commands in flight end ── flush of each disk
//! power-off:  SHUTDOWN ── vCPUs stop ─────────────── commands in flight end ── flush of each disk ── exit
//! ```
//!
//! The supervisor takes these events later than the server of a disk may get the flush, so this reads the control
//! socket itself, on the thread that asks. A flush of the guest that is in flight when its vCPUs stop is taken for one
//! of QEMU's, and may be: QEMU's main loop passes no reply to the guest between `SHUTDOWN` and the end of the vCPUs,
//! and after `STOP` they do not run, so the guest never learns that the flush has completed.

use std::sync::{Arc, Mutex, PoisonError};

use provium_qmp::{Event, Events};

/// Tells whether a machine's guest has ended: panicked, switched itself off, or was quit. Clones are the same watch.
#[derive(Clone, Debug)]
pub struct GuestEndWatch(Arc<Mutex<EventFollower>>);

#[derive(Debug)]
struct EventFollower {
    events: Events,
    phase: Phase,
}

/// What QEMU has said so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// The guest runs, or is paused and will run again.
    #[default]
    Running,
    /// Its kernel has panicked. Other vCPUs may run for another moment.
    Panicked,
    /// Its vCPUs do not run any more.
    Ended,
}

impl GuestEndWatch {
    /// Follows events from before the machine runs.
    pub(super) fn new(events: Events) -> Self {
        let phase = Phase::default();
        Self(Arc::new(Mutex::new(EventFollower { events, phase })))
    }

    /// Whether the guest had ended when QEMU sent what the caller has just received. Does not wait. On any thread, also
    /// outside of a runtime.
    pub fn has_ended(&self) -> bool {
        let mut followed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        followed.events.catch_up();
        while let Some(event) = followed.events.try_next() {
            followed.phase = followed.phase.after(&event);
        }
        followed.phase == Phase::Ended
    }
}

impl Phase {
    fn after(self, event: &Event) -> Self {
        match (event.name.as_str(), self) {
            ("GUEST_PANICKED", Self::Running) if event.data["action"] != "run" => Self::Panicked,
            ("STOP", Self::Panicked) | ("SHUTDOWN", _) => Self::Ended,
            ("RESUME", _) => Self::Running,
            _ => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(events: &[(&str, &str)]) -> Phase {
        events.iter().fold(Phase::default(), |phase, (name, data)| {
            phase.after(&Event {
                name: (*name).to_owned(),
                data: serde_json::from_str(data).unwrap(),
            })
        })
    }

    #[test]
    fn a_guest_that_panics_has_ended_when_its_vcpus_stop() {
        let panicked = ("GUEST_PANICKED", r#"{"action": "pause"}"#);
        assert_eq!(after(&[panicked]), Phase::Panicked);
        assert_eq!(after(&[panicked, ("STOP", "null")]), Phase::Ended);
        let runs_on = ("GUEST_PANICKED", r#"{"action": "run"}"#);
        assert_eq!(after(&[runs_on, ("STOP", "null")]), Phase::Running);
    }

    #[test]
    fn a_shutdown_is_the_end_and_a_pause_is_not() {
        let off = ("SHUTDOWN", r#"{"guest": true, "reason": "guest-shutdown"}"#);
        assert_eq!(after(&[off]), Phase::Ended);
        assert_eq!(after(&[("STOP", "null")]), Phase::Running);
        assert_eq!(after(&[("STOP", "null"), off]), Phase::Ended);
        assert_eq!(after(&[("RESET", "null")]), Phase::Running);
        let panicked = ("GUEST_PANICKED", r#"{"action": "pause"}"#);
        let resumed = [panicked, ("STOP", "null"), ("RESUME", "null")];
        assert_eq!(after(&resumed), Phase::Running);
    }
}
