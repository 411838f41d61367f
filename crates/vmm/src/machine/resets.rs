//! Tells a reset from its echo.
//!
//! SeaBIOS, entered by a reset that left RAM as it was, resets the machine once more before it does
//! anything else (`tryReboot` in its `src/resume.c`), by several means, until one works. So QEMU
//! reports up to fifteen resets for each intended one, the later ones as the guest's, over
//! some 0.3 s. A kernel that reboots says so on its console; the firmware says nothing there.

use std::time::Duration;

use tokio::time::Instant;

use super::status::MachineEvent;

/// Within this time after a reset, the guest's are echoes: none that runs Linux is back so soon.
const SURE: Duration = Duration::from_secs(1);

/// Within this time they are if the console was silent: a crowded host stretches the firmware's.
const LIKELY: Duration = Duration::from_secs(10);

/// The last reset, which may echo.
#[derive(Debug, Default)]
pub(super) struct Resets {
    /// When the last one came that was not an echo, and the length of the console then.
    last: Option<(Instant, u64)>,
}

impl Resets {
    /// The event of a reset; `None` for an echo. `was_up` says that the guest's agent had answered
    /// since the reset before: the firmware was done then.
    pub(super) fn take(
        &mut self,
        by_guest: bool,
        was_up: bool,
        now: Instant,
        console: u64,
    ) -> Option<MachineEvent> {
        let in_time = self.last.is_some_and(|(last, length)| {
            let after = now.duration_since(last);
            after < SURE || (after < LIKELY && console == length)
        });
        if by_guest && !was_up && in_time {
            return None;
        }
        self.last = Some((now, console));
        Some(if by_guest {
            MachineEvent::Rebooted
        } else {
            MachineEvent::Reset
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reset_counts_once() {
        let start = Instant::now();
        let mut resets = Resets::default();
        let mut take = |by_guest, ms, console| {
            resets.take(by_guest, false, start + Duration::from_millis(ms), console)
        };
        assert_eq!(take(true, 0, 5), Some(MachineEvent::Rebooted));
        assert_eq!(take(true, 40, 5), None);
        assert_eq!(
            take(true, 41, 9),
            None,
            "what was printed before comes late"
        );
        assert_eq!(take(true, 2_000, 5), None, "a slow host");
        let host = take(false, 2_100, 5);
        assert_eq!(
            host,
            Some(MachineEvent::Reset),
            "the host's is never an echo"
        );
        assert_eq!(take(false, 2_110, 5), Some(MachineEvent::Reset));
        assert_eq!(take(true, 2_150, 5), None);
        assert_eq!(take(true, 4_000, 80), Some(MachineEvent::Rebooted));
        assert_eq!(take(true, 20_000, 80), Some(MachineEvent::Rebooted));
    }

    #[test]
    fn a_reset_soon_after_another_counts_once_the_agent_has_answered() {
        let start = Instant::now();
        let mut resets = Resets::default();
        let soon = start + Duration::from_millis(1_200);
        resets.take(false, true, start, 5);
        assert_eq!(resets.take(true, false, soon, 5), None);
        assert_eq!(
            resets.take(true, true, soon, 5),
            Some(MachineEvent::Rebooted)
        );
    }
}
