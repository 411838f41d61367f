//! Whether a guest's clock runs at the host's rate.
//!
//! Without KVM a kernel measures the frequency of its time stamp counter when it starts, against timers
//! that a busy host serves late. If that fails, all clocks of the guest run several times too fast until
//! its next boot: a sleep of one second takes a fraction of that. A template made of such a guest would
//! pass the error on to every later boot of its kind.

use crate::error::LabError;
use crate::guest::wait::{GuestWait, WaitError};
use crate::vm::boot::Boot;
use provium_events::NoticeSubject;
use provium_guest::Channel;
use provium_protocol::op::Stats;
use provium_vmm::Machine;
use std::time::{Duration, Instant};

/// A guest with a wrong clock is booted again this often in all; then it is taken as it is.
const ATTEMPTS: usize = 3;

/// How long an agent may take to report the time, before the timeout multiplier.
const LIMIT: Duration = Duration::from_secs(5);

/// How long the clock is measured: long compared with the time that a call takes.
const WATCHED: Duration = Duration::from_millis(100);

/// Deviation of the rate above which it counts as wrong. Kernels correct an error below a hundredth, and
/// a calibration that fails is off by a factor.
const TOLERANCE: f64 = 0.1;

/// Whether the clock of a guest that has booted can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GuestClock {
    /// As far as can be seen.
    Right,
    /// It runs at another rate than the host's, which was reported.
    Wrong,
}

impl Boot<'_> {
    /// A machine that has booted cold, and the session with its agent. A boot after which the guest's
    /// clock is wrong is repeated, without what it has written to its disks.
    pub(super) async fn cold_on_time(&self) -> Result<(Machine, Channel, GuestClock), LabError> {
        let limit = self.environment().scale_timeout(LIMIT);
        let failed = |error| LabError::host(self.vm.subject(), "boot()", error);
        let marks = self.disks.mark().map_err(failed)?;
        let mut attempt = 1;
        loop {
            let (machine, channel) = self.cold().await?;
            let rate = match GuestWait::new(&machine, limit)
                .until(wrong_clock_rate(&channel))
                .await
            {
                Ok(rate) => rate,
                // A silent agent is noticed by the next request.
                Err(WaitError::TimedOut(_)) => None,
                // Only one wait is notified that the guest ended, so this one must report it.
                Err(ended) => return Err(self.ended(ended.to_string())),
            };
            let Some(rate) = rate else {
                return Ok((machine, channel, GuestClock::Right));
            };
            let is_last = attempt == ATTEMPTS;
            let then = if is_last {
                "it is used as it is, and no boot template is made of it"
            } else {
                "it is booted again"
            };
            let text = format!(
                "the clock of {} runs {rate:.1} times as fast as the host's, since the host was too busy \
                 while its kernel measured the processor: {then}",
                self.vm.subject()
            );
            self.vm.0.file.warn(NoticeSubject::Guest, text);
            if is_last {
                return Ok((machine, channel, GuestClock::Wrong));
            }
            {
                // QEMU waits for the commands in flight, and flushes the disks, which the guest has not requested.
                let _drain = self.disks.served.drain();
                machine.quit().await;
            }
            self.disks.roll_back(&marks).map_err(failed)?;
            // With a wrong clock, watchdogs find processors stuck that are not.
            self.vm.console().ignore_reports();
            self.vm.console().begin_boot();
            attempt += 1;
        }
    }
}

/// How many times faster than the host's the guest's clock runs, if that is surely wrong; `None` if the
/// clock is right, or cannot be read.
async fn wrong_clock_rate(channel: &Channel) -> Option<f64> {
    let begun = Instant::now();
    let first = channel.call(Stats).await.ok()?;
    let inner = Instant::now();
    tokio::time::sleep(WATCHED).await;
    let inner = inner.elapsed();
    let second = channel.call(Stats).await.ok()?;
    let outer = begun.elapsed();
    let guest = Duration::from_nanos(second.uptime_ns.saturating_sub(first.uptime_ns));
    surely_wrong(guest, inner, outer)
}

/// Of a time that took between `inner` and `outer` on the host, and `guest` in the guest.
fn surely_wrong(guest: Duration, inner: Duration, outer: Duration) -> Option<f64> {
    let least = guest.as_secs_f64() / outer.as_secs_f64();
    let most = guest.as_secs_f64() / inner.as_secs_f64();
    if least > 1.0 + TOLERANCE {
        Some(least)
    } else if most < 1.0 - TOLERANCE {
        Some(most)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_be_a_slow_answer_is_wrong() {
        let wrong = |guest, inner, outer| {
            let [guest, inner, outer] = [guest, inner, outer].map(Duration::from_millis);
            surely_wrong(guest, inner, outer)
        };
        assert_eq!(wrong(101, 100, 102), None);
        assert_eq!(
            wrong(455, 100, 455),
            None,
            "the answers may have taken so long"
        );
        assert_eq!(wrong(455, 100, 105).map(f64::round), Some(4.0));
        assert_eq!(wrong(100, 100, 900), None);
        assert_eq!(wrong(50, 100, 102), Some(0.5));
    }
}
