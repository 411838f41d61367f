//! What guests depend on of the host's processor: the frequency of its time stamp counter (TSC), and, with KVM, its
//! model.
//!
//! Under TCG, a guest reads the host's counter. Its kernel would measure the frequency against emulated timers, which a
//! busy host serves late: then all clocks of the guest run too fast, some by a factor of 30. So the host measures it,
//! and [the kernel's arguments](crate::kernel_arguments()) contain it. The memory of a saved guest contains it, too.

use super::Accel;
use provium_process::time_stamp_counter;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long the counter is watched. A sample is exact to a microsecond, so the frequency is to some 0.004 %.
const WATCHED: Duration = Duration::from_millis(50);

/// Readings of which the fastest is taken as a sample: the others were interrupted.
const READINGS: usize = 16;

/// To what the frequency is rounded, kHz, so that the templates of one host serve others with the same processor.
const STEP: u64 = 1000;

/// Frequencies that a counter can have, kHz.
const POSSIBLE: std::ops::Range<u64> = 100_000..20_000_000;

/// The largest difference between the frequencies of two processors at which a saved guest runs on both: its clocks are
/// wrong by as much.
const TOLERANCE: f64 = 0.002;

/// What guests depend on of the host's processor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Processor {
    /// The vendor's name of it, family, model and stepping.
    pub model: String,
    /// The frequency of the time stamp counter, kHz; `None` where its rate is not constant.
    pub tsc_khz: Option<u32>,
}

impl Processor {
    /// The host's. Its counter is measured, which takes 50 ms, unless `known_khz` is its frequency.
    pub(super) async fn of_host(known_khz: Option<u32>) -> Self {
        let listed = fs_err::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let tsc_khz = match known_khz {
            None if has_constant_counter(&listed) => measure().await,
            known => known,
        };
        Self {
            model: model(&listed),
            tsc_khz,
        }
    }

    /// Whether a guest that was saved on this processor, where it ran by `accel`, works on that one.
    pub fn serves(&self, other: &Self, accel: Accel) -> bool {
        let same_model = accel == Accel::Tcg || self.model == other.model;
        same_model
            && match (self.tsc_khz, other.tsc_khz) {
                (Some(saved), Some(here)) => {
                    f64::from(saved.abs_diff(here)) <= f64::from(saved) * TOLERANCE
                }
                (saved, here) => saved == here,
            }
    }

    /// What of it is in the state of a guest that runs by `accel`. A saved guest works on processors with the same.
    pub fn identity(&self, accel: Accel) -> String {
        let counter = match self.tsc_khz {
            Some(khz) => format!("TSC of {} MHz", khz / 1000),
            None => "TSC of no constant rate".to_owned(),
        };
        match accel {
            Accel::Tcg => counter,
            Accel::Kvm => format!("{}, {counter}", self.model),
        }
    }
}

/// A field of the first processor in `/proc/cpuinfo`.
fn field<'a>(listed: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = listed.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(key, _)| key.trim() == name)?;
    Some(value.trim())
}

fn model(listed: &str) -> String {
    let names = ["model name", "cpu family", "model", "stepping"];
    let fields = names.into_iter().filter_map(|name| field(listed, name));
    fields.collect::<Vec<_>>().join(" ")
}

/// Whether the counters have one rate, whatever the processors do.
fn has_constant_counter(listed: &str) -> bool {
    let mut flags = field(listed, "flags").unwrap_or_default().split(' ');
    flags.any(|flag| flag == "constant_tsc")
}

/// The counter at a time.
struct Sample {
    /// Since the host's boot, by the clock that NTP does not slew.
    time: Duration,
    counter: u64,
}

fn raw_time() -> Duration {
    let time = clock_gettime(ClockId::MonotonicRaw);
    // Neither is negative.
    let (seconds, nanoseconds) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds)
}

impl Sample {
    fn take() -> Self {
        let reading = || {
            let before = time_stamp_counter();
            let time = raw_time();
            let took = time_stamp_counter().saturating_sub(before);
            let counter = before + took / 2;
            (took, Self { time, counter })
        };
        let readings = (1..READINGS).map(|_| reading());
        readings
            .fold(
                reading(),
                |fastest, next| if next.0 < fastest.0 { next } else { fastest },
            )
            .1
    }
}

async fn measure() -> Option<u32> {
    let first = Sample::take();
    tokio::time::sleep(WATCHED).await;
    frequency(&first, &Sample::take())
}

fn frequency(first: &Sample, second: &Sample) -> Option<u32> {
    let cycles = u128::from(second.counter.checked_sub(first.counter)?);
    let nanoseconds = second.time.saturating_sub(first.time).as_nanos();
    let khz = u64::try_from(cycles * 1_000_000 / nanoseconds.max(1)).ok()?;
    if !POSSIBLE.contains(&khz) {
        return None;
    }
    u32::try_from((khz + STEP / 2) / STEP * STEP).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 1\nmodel name\t: AMD EPYC\nstepping\t: 1\n\
                          flags\t\t: fpu constant_tsc sse\n\nprocessor\t: 1\nmodel name\t: other\n";

    #[test]
    fn the_frequency_is_cycles_per_time_in_whole_megahertz() {
        let sample = |counter, ms| Sample {
            time: Duration::from_millis(ms),
            counter,
        };
        let of = |counter, ms| frequency(&sample(1000, 0), &sample(1000 + counter, ms));
        assert_eq!(of(129_806_470, 50), Some(2_596_000));
        assert_eq!(of(129_830_000, 50), Some(2_597_000));
        // Not the processor's: it ran back, or does not run.
        assert_eq!(frequency(&sample(1000, 0), &sample(999, 50)), None);
        assert_eq!(of(50, 50), None);
        assert_eq!(of(u64::MAX / 2, 1), None);
    }

    #[test]
    fn a_counter_without_a_constant_rate_is_not_measured() {
        assert!(has_constant_counter(LISTED));
        assert!(!has_constant_counter("flags\t: fpu tsc sse\n"));
        assert!(!has_constant_counter(""));
    }

    #[test]
    fn a_saved_guest_works_where_the_frequency_differs_by_a_measurement_only() {
        let of = |model: &str, tsc_khz| Processor {
            model: model.to_owned(),
            tsc_khz,
        };
        let saved = of("one", Some(2_500_000));
        for (khz, serves) in [
            (Some(2_500_000), true),
            (Some(2_505_000), true),
            (Some(2_495_000), true),
            (Some(2_506_000), false),
            (Some(2_494_000), false),
            (Some(3_000_000), false),
            (None, false),
        ] {
            assert_eq!(saved.serves(&of("one", khz), Accel::Tcg), serves, "{khz:?}");
            assert_eq!(saved.serves(&of("two", khz), Accel::Tcg), serves, "{khz:?}");
            assert_eq!(saved.serves(&of("one", khz), Accel::Kvm), serves, "{khz:?}");
            assert!(!saved.serves(&of("two", khz), Accel::Kvm));
        }
        let unknown = of("one", None);
        assert!(unknown.serves(&unknown, Accel::Tcg));
        assert!(!unknown.serves(&saved, Accel::Tcg));
    }

    #[test]
    fn a_guest_depends_on_the_model_where_it_runs_on_the_processor_itself() {
        let processor = |tsc_khz| Processor {
            model: model(LISTED),
            tsc_khz,
        };
        let known = processor(Some(2_596_000));
        assert_eq!(known.identity(Accel::Tcg), "TSC of 2596 MHz");
        assert_eq!(
            known.identity(Accel::Kvm),
            "AMD EPYC 25 1 1, TSC of 2596 MHz"
        );
        let unknown = processor(None).identity(Accel::Tcg);
        assert_eq!(unknown, "TSC of no constant rate");
    }

    #[tokio::test]
    async fn the_hosts_counter_is_measured_once() {
        let listed = fs_err::read_to_string("/proc/cpuinfo").unwrap();
        let measured = Processor::of_host(None).await.tsc_khz;
        assert_eq!(measured.is_some(), has_constant_counter(&listed));
        assert_eq!(Processor::of_host(Some(5)).await.tsc_khz, Some(5));
    }
}
