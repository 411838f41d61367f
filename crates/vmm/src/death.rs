//! How a machine ended.

use std::fmt;

use provium_process::Exit;
use provium_qmp::Event;

/// The end of a machine. Whichever comes first is kept: a guest that panicked and is then quit has
/// panicked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// What ended.
    pub kind: DeathKind,
    /// The end of what QEMU wrote to standard error, without surrounding blanks.
    pub stderr: String,
}

/// What ended a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeathKind {
    /// The guest switched itself off.
    PoweredOff,
    /// The guest's kernel panicked, and said so to its pvpanic device. Its vCPUs are stopped; the
    /// process is there until the machine is quit.
    Panicked,
    /// It was quit by its owner.
    Quit,
    /// The QEMU process ended, for none of the reasons above.
    QemuExited(Exit),
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            DeathKind::PoweredOff => f.write_str("the guest powered itself off"),
            DeathKind::Panicked => f.write_str("the guest's kernel panicked"),
            DeathKind::Quit => f.write_str("the machine was quit"),
            DeathKind::QemuExited(exit) if self.stderr.is_empty() => write!(f, "QEMU {exit}"),
            DeathKind::QemuExited(exit) => write!(f, "QEMU {exit}: {}", self.stderr),
        }
    }
}

/// The end that an event announces, if it announces one. The names and reasons are those of QEMU's
/// `qapi/run-state.json`.
pub(crate) fn announced(event: &Event) -> Option<DeathKind> {
    let reason = event.data["reason"].as_str();
    match (event.name.as_str(), reason) {
        // Otherwise its vCPUs run on: see `PanicAction`.
        ("GUEST_PANICKED", _) if event.data["action"] != "run" => Some(DeathKind::Panicked),
        ("SHUTDOWN", Some("guest-panic")) => Some(DeathKind::Panicked),
        ("SHUTDOWN", Some("host-qmp-quit")) => Some(DeathKind::Quit),
        ("SHUTDOWN", _) if event.data["guest"] == true => Some(DeathKind::PoweredOff),
        // Signals to QEMU and its own failures: the process's end tells.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str) -> Event {
        Event {
            name: name.into(),
            data: serde_json::from_str(data).unwrap(),
        }
    }

    #[test]
    fn events_distinguish_the_ends() {
        let cases = [
            (
                "SHUTDOWN",
                r#"{"guest": true, "reason": "guest-shutdown"}"#,
                Some(DeathKind::PoweredOff),
            ),
            (
                "SHUTDOWN",
                r#"{"guest": true, "reason": "guest-panic"}"#,
                Some(DeathKind::Panicked),
            ),
            (
                "GUEST_PANICKED",
                r#"{"action": "pause"}"#,
                Some(DeathKind::Panicked),
            ),
            ("GUEST_PANICKED", r#"{"action": "run"}"#, None),
            (
                "SHUTDOWN",
                r#"{"guest": false, "reason": "host-qmp-quit"}"#,
                Some(DeathKind::Quit),
            ),
            (
                "SHUTDOWN",
                r#"{"guest": false, "reason": "host-signal"}"#,
                None,
            ),
            ("RESET", r#"{"guest": true, "reason": "guest-reset"}"#, None),
            ("STOP", "null", None),
        ];
        for (name, data, expected) in cases {
            assert_eq!(announced(&event(name, data)), expected, "{name} {data}");
        }
    }

    #[test]
    fn a_death_says_how() {
        let killed = DeathKind::QemuExited(Exit::Signalled(9));
        assert_eq!(
            Death {
                kind: killed,
                stderr: String::new()
            }
            .to_string(),
            "QEMU was killed by SIGKILL"
        );
        let failed = DeathKind::QemuExited(Exit::Exited(1));
        let death = Death {
            kind: failed,
            stderr: "out of memory".into(),
        };
        assert_eq!(
            death.to_string(),
            "QEMU exited with status 1: out of memory"
        );
    }
}
