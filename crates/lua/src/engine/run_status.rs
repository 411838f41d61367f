//! How a command ended, in words.

use provium_lab::RunStatus;

/// Signals by name, x86-64 numbers.
pub(crate) const SIGNALS: &[(&str, i32)] = &[
    ("term", 15),
    ("kill", 9),
    ("int", 2),
    ("hup", 1),
    ("quit", 3),
    ("stop", 19),
    ("cont", 18),
    ("usr1", 10),
    ("usr2", 12),
    ("alrm", 14),
    ("pipe", 13),
    ("chld", 17),
    ("winch", 28),
    ("segv", 11),
    ("abrt", 6),
    ("ttin", 21),
    ("ttou", 22),
];

/// `exited with 1`, `was killed by SIGTERM`, `timed out`.
pub(crate) fn describe_status(status: RunStatus) -> String {
    match status {
        RunStatus::Exited(code) => format!("exited with {code}"),
        RunStatus::Signalled(signal) => {
            let name = signal_name(signal).unwrap_or_else(|| format!("signal {signal}"));
            format!("was killed by {name}")
        }
        RunStatus::TimedOut => "timed out".to_owned(),
    }
}

/// `SIGTERM` for 15; `None` for a number without a name here.
fn signal_name(number: i32) -> Option<String> {
    let found = SIGNALS.iter().find(|(_, known)| *known == number);
    found.map(|(name, _)| format!("SIG{}", name.to_uppercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_names_code_or_signal() {
        assert_eq!(describe_status(RunStatus::Exited(3)), "exited with 3");
        assert_eq!(
            describe_status(RunStatus::Signalled(15)),
            "was killed by SIGTERM"
        );
        assert_eq!(
            describe_status(RunStatus::Signalled(34)),
            "was killed by signal 34"
        );
    }
}
