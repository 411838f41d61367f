//! Telling a reset from its echo.
//!
//! SeaBIOS, entered by a reset that left RAM as it was, resets the machine once more before it does
//! anything else (`tryReboot` in its `src/resume.c`, by several means until one works). So QEMU
//! reports two or three resets for each that somebody wanted, the later ones as the guest's, some
//! 40 ms after the first. A guest that comes up and resets within [`ECHO`] is taken for an echo too:
//! none that runs Linux is that quick.

use std::time::Duration;

use tokio::time::Instant;

use super::MachineEvent;

/// Within this time after a reset, the guest's are echoes.
const ECHO: Duration = Duration::from_secs(1);

/// What has been reset, and may echo.
#[derive(Debug, Default)]
pub(super) struct Resets {
    /// When the last one came that was no echo.
    last: Option<Instant>,
}

impl Resets {
    /// The event of a reset; `None` for an echo.
    pub(super) fn take(&mut self, by_guest: bool, now: Instant) -> Option<MachineEvent> {
        if by_guest
            && self
                .last
                .is_some_and(|last| now.duration_since(last) < ECHO)
        {
            return None;
        }
        self.last = Some(now);
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
        let mut take = |by_guest, ms| resets.take(by_guest, start + Duration::from_millis(ms));
        assert_eq!(take(true, 0), Some(MachineEvent::Rebooted));
        assert_eq!(take(true, 40), None);
        assert_eq!(take(true, 41), None);
        assert_eq!(
            take(false, 900),
            Some(MachineEvent::Reset),
            "the host's is never an echo"
        );
        assert_eq!(take(false, 910), Some(MachineEvent::Reset));
        assert_eq!(take(true, 950), None);
        assert_eq!(take(true, 3_000), Some(MachineEvent::Rebooted));
    }
}
