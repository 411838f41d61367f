//! Faults as people read them: `eio_write, sectors 8 to 15, probability 0.5, at most 3 times`.

use super::rule::{FaultMode, FaultRule, SectorRange};
use std::fmt;

impl FaultMode {
    /// Its name, without the number of [`FailAfter`](Self::FailAfter).
    pub fn name(self) -> &'static str {
        match self {
            Self::EioRead => "eio_read",
            Self::EioWrite => "eio_write",
            Self::Eio => "eio",
            Self::Slow => "slow",
            Self::Delay => "delay",
            Self::TornWrite => "torn_write",
            Self::DropFlush => "drop_flush",
            Self::Corrupt => "corrupt",
            Self::Enospc => "enospc",
            Self::FailAfter(_) => "fail_after",
        }
    }
}

impl fmt::Display for FaultRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.mode.name())?;
        if let FaultMode::FailAfter(number) = self.mode {
            write!(f, " command {number}")?;
        }
        if let Some(SectorRange { first, last }) = self.sectors {
            write!(f, ", sectors {first} to {last}")?;
        }
        if let Some(probability) = self.probability {
            write!(f, ", probability {probability}")?;
        }
        if let Some(count) = self.count {
            write!(f, ", at most {count} times")?;
        }
        if self.after > 0 {
            write!(f, ", after {} commands", self.after)?;
        }
        if let Some(delay) = self.delay {
            write!(f, ", delay {} s", delay.as_secs_f64())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn rules_are_described() {
        let all = FaultRule {
            sectors: Some(SectorRange { first: 8, last: 15 }),
            probability: Some(0.5),
            count: Some(3),
            after: 2,
            delay: Some(Duration::from_millis(20)),
            ..FaultRule::new(FaultMode::EioWrite)
        };
        assert_eq!(
            all.to_string(),
            "eio_write, sectors 8 to 15, probability 0.5, at most 3 times, after 2 commands, delay 0.02 s"
        );
        let plain = |mode| FaultRule::new(mode).to_string();
        assert_eq!(plain(FaultMode::DropFlush), "drop_flush");
        assert_eq!(plain(FaultMode::FailAfter(4)), "fail_after command 4");
    }
}
